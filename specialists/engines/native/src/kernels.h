// What is compiled once for each instruction set: a table of functions over plain arrays.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "api.h"

namespace ph {

constexpr int BLOCK = 16;      // rows of weights that are packed together
constexpr int CHUNK = 32;      // columns that quantized kinds are unpacked by; a group is one or several
constexpr int POSITIONS = 32;  // tokens of one block of the key-value cache

constexpr bool is_dense(int kind) { return kind == PH_F32 || kind == PH_BF16 || kind == PH_F16 || kind == PH_BYTE; }
constexpr size_t number_bytes(int kind) { return kind == PH_F32 ? 4 : kind == PH_BYTE ? 1 : 2; }  // dense kinds
constexpr int offset(int bits) { return 1 << (bits - 1); }
constexpr size_t chunk_bytes(int bits) { return size_t(CHUNK) * BLOCK * bits / 8; }

// Weights, packed in the order in which the products read them; `Matrix` owns the memory.
//
// Rows come in blocks of 16. Within a block, dense kinds hold for each column the 16 rows' numbers. Quantized kinds
// hold cells of 64 bytes: 16 rows by 4 columns of one byte, which is what one dot-product instruction takes.
// 4-bit cells share 64 bytes in pairs (low nibbles first), 2-bit ones in fours; 3-bit ones are 2-bit ones followed,
// every 32 columns, by 64 bytes that hold the upper bit of eight cells. Codes are stored plus `offset(bits)`, which
// makes them unsigned. Scales are f16, one for each row and group of columns, in units of a power of two; a block's lie
// before its codes, so that all is read as one stream.
struct Weights {
  int kind = PH_F32, rows = 0, columns = 0, group = 0;
  int blocks = 0;                    // ceil(rows / 16); rows beyond `rows` are zeros
  int groups = 0;                    // ceil(columns / group); columns beyond `columns` are zeros
  size_t scale_bytes = 0;            // of a block's scales, whole cache lines
  size_t block_bytes = 0;            // of both
  float unit = 1;                    // what the scales are multiples of
  bool far = false;                  // read from memory for every token, since the model fits no cache
  const uint8_t* data = nullptr;     // [blocks][block_bytes]: scales [groups][16], then codes; or numbers
  const float* bias = nullptr;       // [blocks * 16], or null
  const float* row_scales = nullptr; // [blocks * 16], PH_BYTE only

  const uint8_t* block(int b) const { return data + size_t(b) * block_bytes + scale_bytes; }
  const uint16_t* block_scales(int b) const {
    return reinterpret_cast<const uint16_t*>(data + size_t(b) * block_bytes);
  }
};

// Rows of activations as int8, for products with quantized weights. An activation is scale * (first + second / 254);
// with one part the second is left out. `sums` are those of the codes of each group, which undo the weights' offset.
struct QuantRows {
  int8_t* codes = nullptr;    // [rows][parts][padded columns]
  int32_t* sums = nullptr;    // [rows][parts][groups]
  float* scales = nullptr;    // [rows][groups]
  int parts = 1, groups = 0, padded = 0;

  QuantRows from(int row) const {  // the rows from this one on
    QuantRows rest = *this;
    rest.codes += size_t(row) * size_t(parts) * size_t(padded);
    rest.sums += size_t(row) * size_t(parts) * size_t(groups);
    rest.scales += size_t(row) * size_t(groups);
    return rest;
  }
};

// One token's query heads that share a key-value head, against that head's cache.
struct Attention {
  const float* queries;       // [heads][size], already scaled
  float* const* blocks;       // each holds keys [size][32] and then values [32][size]
  float* scores;              // [heads][positions, rounded up to 32], scratch
  float* out;                 // [heads][out_size]
  int heads, size, positions, out_size;
};

struct Peak {
  float largest, sum;  // sum of exp(x - largest)
  int32_t index;       // of the largest; the lowest where there are several
};

struct Kernels {
  const char* name;
  // y[row][16 b ...] = or += weights . x for blocks begin <= b < end; x padded with zeros. `quant` for quantized
  // weights. The result of a row depends on nothing but that row: neither on the other rows nor on begin and end.
  void (*multiply)(const Weights&, int begin, int end, const float* x, size_t x_stride, const QuantRows* quant, int rows,
                   float* y, size_t y_stride, bool add);
  void (*quantize)(const float* x, const QuantRows& to, int row, int group);
  void (*normalize)(const float* x, const float* weight, float* y, int count, float epsilon);
  void (*gate)(float* gate, const float* up, int count);  // gate = silu(gate) * up
  void (*attend)(const Attention&);
  float (*dot)(const float*, const float*, int count);
  void (*add_scaled)(float* x, const float* direction, float amount, int count);
  Peak (*peak)(const float* x, int count);
  uint32_t (*read)(const uint8_t* from, size_t bytes);  // a sum over all of it; bytes a multiple of 256
};

// The tables that were compiled in and that this processor can run, best first.
const Kernels* const* usable_kernels(int* count);
const Kernels* find_kernels(const char* name);

}  // namespace ph
