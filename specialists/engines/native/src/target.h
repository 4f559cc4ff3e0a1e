// Where products go.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace ph {
namespace {

struct Target {
  float* y;
  size_t stride;
  bool add;
};

PH_INLINE void finish(const Weights& a, const Target& to, int block, int row, int piece, Floats value) {
  float* y = to.y + size_t(row) * to.stride + size_t(block) * BLOCK + piece * WIDTH;
  if (a.bias != nullptr) value += load<Floats>(a.bias + size_t(block) * BLOCK + piece * WIDTH);
  store(y, to.add ? load<Floats>(y) + value : value);
}

}  // namespace
}  // namespace ph
