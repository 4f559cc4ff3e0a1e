// The memory that a step works in.
#pragma once
#include <vector>

#include "model.h"

namespace ph {

constexpr int HEAD_ROWS = 8;        // rows of logits held at once
constexpr int PEAK_CHUNK = 4096;    // logits summed by one thread; fixed, so that sums do not depend on the threads
constexpr int GROUP_SIZES = 4;      // 32, 64, 128, 256
constexpr int group_slot(int group) { return group == 32 ? 0 : group == 64 ? 1 : group == 128 ? 2 : 3; }

// Rows of floats, each padded with zeros.
struct Rows {
  Array<float> memory;
  size_t stride = 0;
  Rows() = default;
  Rows(int rows, int columns) : stride(round_up(size_t(columns), WIDEST)) { memory = Array<float>(stride * size_t(rows)); }
  float* operator[](int row) { return memory.data() + stride * size_t(row); }
};

// Memory behind QuantRows.
struct QuantMemory {
  Array<int8_t> codes;
  Array<int32_t> sums;
  Array<float> scales;
  void hold(int rows, int parts, int columns, int group) {
    rows += 16;  // tiles read whole, beyond the last row
    const size_t padded = round_up(size_t(columns), size_t(group)), groups = padded / size_t(group);
    codes = Array<int8_t>(size_t(rows) * size_t(parts) * padded);
    sums = Array<int32_t>(size_t(rows) * size_t(parts) * groups);
    scales = Array<float>(size_t(rows) * groups);
  }
  QuantRows view(int parts, int columns, int group) {
    QuantRows rows;
    rows.codes = codes.data(), rows.sums = sums.data(), rows.scales = scales.data(), rows.parts = parts;
    rows.padded = int(round_up(size_t(columns), size_t(group))), rows.groups = rows.padded / group;
    return rows;
  }
};

// What the products of one phase read: rows, and for each group size in use their int8 codes.
struct Input {
  const float* x = nullptr;
  size_t stride = 0;
  QuantRows quant[GROUP_SIZES];
};

// What a thread makes for itself where one row is all there is: cheaper than waiting for another thread to make it.
struct Private {
  Rows normed;
  QuantMemory quant[GROUP_SIZES];
  Array<float> scores;
};

}  // namespace ph

struct ph_scratch {
  explicit ph_scratch(const ph_model& model);
  ph::Rows x, normed, q, k, v, mixed, gate, up, low, logits;
  ph::QuantMemory quant[ph::GROUP_SIZES];
  std::vector<ph::Private> own;  // [threads]
  std::vector<ph::Peak> peaks;   // [HEAD_ROWS][chunks of the vocabulary]
  std::vector<uint8_t> bad;      // [rows]: not finite
  size_t low_columns = 0;
  void hold_low(int rows, size_t columns);  // room for adapters' first products
};
