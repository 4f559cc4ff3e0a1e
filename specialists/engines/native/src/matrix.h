// Owned, packed weights; how they are packed is said at `Weights`.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace ph {

constexpr int WIDEST = 256;  // the largest group; rows of activations are padded to it

struct Matrix : Weights {
  Array<uint8_t> memory;
  Array<float> row_scale_memory;
  std::vector<float> bias_memory;

  bool dense() const { return is_dense(kind); }
  size_t bytes() const { return memory.bytes(); }
  // Write row `row` as floats: an embedding, or what a test compares with.
  void unpack_row(int row, float* out) const;
};

// Packed into `arena`, which must last as long, or into memory of its own.
// Throws std::invalid_argument when the description makes no sense.
Matrix pack(const ph_matrix& source, Arena* arena);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);
float bf16_to_float(uint16_t bits);
uint16_t float_to_bf16(float value);

}  // namespace ph
