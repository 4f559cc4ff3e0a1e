#include "matrix.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace ph {

// -- numbers of 16 bits ---------------------------------------------------------------------------------------------

static uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

static float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

float bf16_to_float(uint16_t bits) { return float_of(uint32_t(bits) << 16); }

uint16_t float_to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  if (value != value) return uint16_t((bits >> 16) | 64);  // rounding could turn a NaN into an infinity
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = bits & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // Seen as a float the exponent is 112 too small; a multiplication puts that right for subnormal numbers too.
  const float value = float_of(rest << 13) * float_of(0x77800000);
  return float_of(sign | bits_of(value));
}

uint16_t float_to_half(float value) {
  const uint32_t sign = bits_of(value) >> 16 & 0x8000;
  const float size = std::fabs(value);
  if (!(size < 65520.0f)) return uint16_t(sign | (value != value ? 0x7e00 : 0x7c00));
  if (size < 6.103515625e-5f) return uint16_t(sign | uint32_t(std::lrintf(size * 16777216.0f)));
  const uint32_t bits = bits_of(size);
  return uint16_t(sign | (((bits + 0xfff + (bits >> 13 & 1)) >> 13) - (112u << 10)));
}

// -- packing --------------------------------------------------------------------------------------------------------

static void require(bool condition, const std::string& what) {
  if (!condition) throw std::invalid_argument(what);
}

static void check(const ph_matrix& m) {
  const std::string shape = std::to_string(m.rows) + " x " + std::to_string(m.columns);
  require(m.rows > 0 && m.columns > 0 && m.data != nullptr, "a matrix of shape " + shape + " or without data");
  require(m.kind != PH_BYTE || m.scales != nullptr, "bytes without the scales of their rows");
  if (is_dense(m.kind)) return;
  require(m.kind == PH_INT8 || m.kind == PH_INT4 || m.kind == PH_INT3 || m.kind == PH_INT2,
          "weights of kind " + std::to_string(m.kind) + ": it is one of 0, 1, 16, 8, 4, 3, 2");
  require(m.group >= CHUNK && WIDEST % m.group == 0 && m.scales != nullptr,
          "a group of " + std::to_string(m.group) + " columns: it is 32, 64, 128 or 256, and scales are given");
}

// Where the byte of (row within its block, column) lies within the block, and how far to shift the code in it.
struct Place {
  size_t byte;
  int shift;
};

static Place place(int bits, int row, int column) {
  const size_t chunk = size_t(column / CHUNK) * chunk_bytes(bits);
  const int cell = column % CHUNK / 4, within = row * 4 + column % 4;
  const int low = bits == 3 ? 2 : bits, sharing = 8 / low;  // cells that share 64 bytes
  return {chunk + size_t(cell / sharing) * 64 + within, cell % sharing * low};
}

// 3-bit codes: the byte of the upper bit; its shift is the number of the cell.
static size_t upper_place(int row, int column) {
  return size_t(column / CHUNK) * chunk_bytes(3) + 128 + row * 4 + column % 4;
}

static void put(uint8_t* block, int bits, int row, int column, int code) {
  const Place at = place(bits, row, column);
  const int low = bits == 3 ? 2 : bits;
  block[at.byte] |= uint8_t((code & ((1 << low) - 1)) << at.shift);
  if (bits == 3) block[upper_place(row, column)] |= uint8_t((code >> 2) << (column % CHUNK / 4));
}

static int get(const uint8_t* block, int bits, int row, int column) {
  const Place at = place(bits, row, column);
  const int low = bits == 3 ? 2 : bits, code = block[at.byte] >> at.shift & ((1 << low) - 1);
  if (bits != 3) return code;
  return code | (block[upper_place(row, column)] >> (column % CHUNK / 4) & 1) << 2;
}

static void pack_scales(Matrix& m, const float* scales) {
  float largest = 0;
  for (size_t i = 0; i < size_t(m.rows) * m.groups; i++) {
    require(std::isfinite(scales[i]), "a scale that is not finite");
    largest = std::fmax(largest, std::fabs(scales[i]));
  }
  int exponent = 0;
  if (largest > 0) std::frexp(largest, &exponent);
  m.unit = std::ldexp(1.0f, exponent);
  for (int row = 0; row < m.rows; row++)
    for (int g = 0; g < m.groups; g++) {
      auto* scales_of = reinterpret_cast<uint16_t*>(m.memory.data() + size_t(row / BLOCK) * m.block_bytes);
      scales_of[g * BLOCK + row % BLOCK] = float_to_half(std::ldexp(scales[size_t(row) * m.groups + g], -exponent));
    }
}

static void pack_codes(Matrix& m, const int8_t* codes) {
  const int bits = m.kind, lowest = -offset(bits), highest = offset(bits) - 1;
  const int padded = m.groups * m.group;
  for (int row = 0; row < m.blocks * BLOCK; row++) {
    uint8_t* block = m.memory.data() + size_t(row / BLOCK) * m.block_bytes + m.scale_bytes;
    for (int column = 0; column < padded; column++) {
      const bool real = row < m.rows && column < m.columns;
      const int code = real ? codes[size_t(row) * m.columns + column] : 0;
      // Not `require`: its message would be made for every one of the codes.
      if (code < lowest || code > highest)
        throw std::invalid_argument("the code " + std::to_string(code) + " in weights of " + std::to_string(bits) +
                                    " bits");
      put(block, bits, row % BLOCK, column, code + offset(bits));
    }
  }
}

template <class T>
static void pack_dense(Matrix& m, const T* data) {
  for (int row = 0; row < m.rows; row++) {
    T* block = reinterpret_cast<T*>(m.memory.data() + size_t(row / BLOCK) * m.block_bytes);
    for (int column = 0; column < m.columns; column++)
      block[size_t(column) * BLOCK + row % BLOCK] = data[size_t(row) * m.columns + column];
  }
}

Matrix pack(const ph_matrix& source, Arena* arena) {
  check(source);
  Matrix m;
  m.kind = source.kind, m.rows = source.rows, m.columns = source.columns;
  m.blocks = (m.rows + BLOCK - 1) / BLOCK;
  if (m.dense()) {
    m.block_bytes = size_t(m.columns) * BLOCK * number_bytes(m.kind);
  } else {
    m.group = source.group;
    m.groups = (m.columns + m.group - 1) / m.group;
    m.scale_bytes = round_up(size_t(m.groups) * BLOCK * sizeof(uint16_t), CACHE_LINE);
    m.block_bytes = m.scale_bytes + size_t(m.groups) * (m.group / CHUNK) * chunk_bytes(m.kind);
  }
  m.memory = Array<uint8_t>(m.block_bytes * m.blocks, arena);
  m.data = m.memory.data();
  if (m.kind == PH_F32) {
    pack_dense(m, static_cast<const uint32_t*>(source.data));
  } else if (m.kind == PH_BYTE) {
    pack_dense(m, static_cast<const uint8_t*>(source.data));
    m.row_scale_memory = Array<float>(size_t(m.blocks) * BLOCK, arena);
    std::memcpy(m.row_scale_memory.data(), source.scales, sizeof(float) * size_t(m.rows));
    m.row_scales = m.row_scale_memory.data();
  } else if (m.dense()) {
    pack_dense(m, static_cast<const uint16_t*>(source.data));
  } else {
    pack_scales(m, source.scales);
    pack_codes(m, static_cast<const int8_t*>(source.data));
  }
  if (source.bias != nullptr) {
    m.bias_memory.assign(size_t(m.blocks) * BLOCK, 0.0f);
    std::memcpy(m.bias_memory.data(), source.bias, sizeof(float) * m.rows);
    m.bias = m.bias_memory.data();
  }
  return m;
}

void Matrix::unpack_row(int row, float* out) const {
  const uint8_t* start = block(row / BLOCK);
  const int within = row % BLOCK;
  for (int column = 0; column < columns; column++) {
    const size_t at = size_t(column) * BLOCK + within;
    if (kind == PH_F32) {
      out[column] = float_of(reinterpret_cast<const uint32_t*>(start)[at]);
    } else if (kind == PH_BYTE) {
      out[column] = float(int8_t(start[at])) * row_scales[row];
    } else if (dense()) {
      const uint16_t bits = reinterpret_cast<const uint16_t*>(start)[at];
      out[column] = kind == PH_BF16 ? bf16_to_float(bits) : half_to_float(bits);
    } else {
      const uint16_t scale = block_scales(row / BLOCK)[size_t(column / group) * BLOCK + within];
      out[column] = float(get(start, kind, within, column) - offset(kind)) * (half_to_float(scale) * unit);
    }
  }
}

}  // namespace ph
