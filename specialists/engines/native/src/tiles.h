// Products of many rows with quantized weights by AMX tiles: 16 rows x 16 outputs x 64 columns an instruction.
//
// The packed cells are what a tile of weights looks like in memory. Only the integer sums of a group come from the tiles;
// they are scaled and added as in multiply.h, in the same order, so a row's result has the same bits.
#pragma once
#include "target.h"

namespace ph {
namespace {

#if defined(__AMX_INT8__)

constexpr int TILES = 4;  // of sums: 64 lines of activations share one load of the weights

struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// The compiler does not know that tile instructions read and write memory.
PH_INLINE void settle_memory() { asm volatile("" ::: "memory"); }

// Tiles 0 to 3 are sums, 4 is weights, 5 is activations.
PH_INLINE void shape_tiles(int depth) {
  TileShapes shapes;
  for (int tile = 0; tile < TILES; tile++) shapes.bytes[tile] = 64, shapes.rows[tile] = 16;
  shapes.bytes[4] = 64, shapes.rows[4] = uint8_t(depth / 4);
  shapes.bytes[5] = uint16_t(depth), shapes.rows[5] = 16;
  settle_memory();
  _tile_loadconfig(&shapes);
}

// Add the products of one tile of weights with up to 64 lines of activations to the sums.
PH_INLINE void add_products(const uint8_t* cells, const int8_t* lines, size_t stride, int tiles) {
  _tile_loadd(4, cells, 64);
  _tile_loadd(5, lines, stride);
  _tile_dpbsud(0, 5, 4);
  if (tiles > 1) {
    _tile_loadd(5, lines + 16 * stride, stride);
    _tile_dpbsud(1, 5, 4);
  }
  if (tiles > 2) {
    _tile_loadd(5, lines + 32 * stride, stride);
    _tile_dpbsud(2, 5, 4);
  }
  if (tiles > 3) {
    _tile_loadd(5, lines + 48 * stride, stride);
    _tile_dpbsud(3, 5, 4);
  }
}

PH_INLINE void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

PH_INLINE void store_sums(int32_t* dots, int tiles) {
  _tile_stored(0, dots, 64);
  if (tiles > 1) _tile_stored(1, dots + 256, 64);
  if (tiles > 2) _tile_stored(2, dots + 512, 64);
  if (tiles > 3) _tile_stored(3, dots + 768, 64);
  settle_memory();
}

// A group's cells as bytes; 8-bit ones are that already.
template <int BITS>
PH_INLINE const uint8_t* plain_cells(const uint8_t* from, int group, uint8_t* to) {
  if (BITS == 8) return from;
  for (int c = 0; c < group; c += CHUNK, from += chunk_bytes(BITS))
    for (int j = 0; j < CHUNK / 4; j++) store(to + (c / 4 + j) * 64, load_cell<BITS>(from, j, 0));
  return to;
}

template <int BITS, int PARTS>
void tiled_block(const Weights& a, int block, const QuantRows& x, int row, int rows, int depth, const Target& to) {
  const int tiles = (rows * PARTS + 15) / 16;
  const int8_t* codes = x.codes + size_t(row) * PARTS * x.padded;
  const int32_t* code_sums = x.sums + size_t(row) * PARTS * x.groups;
  const float* x_scales = x.scales + size_t(row) * x.groups;
  const uint8_t* weights = a.block(block);
  alignas(64) uint8_t cells[256 * BLOCK];
  alignas(64) int32_t dots[TILES * 256];
  Floats sums[16 * TILES / PARTS] = {};
  for (int g = 0; g < a.groups; g++, weights += a.group / CHUNK * chunk_bytes(BITS)) {
    const uint8_t* plain = plain_cells<BITS>(weights, a.group, cells);
    settle_memory();
    clear_sums();
    for (int d = 0; d < a.group; d += depth)
      add_products(plain + d * BLOCK, codes + size_t(g) * a.group + d, size_t(x.padded), tiles);
    store_sums(dots, tiles);
    const Floats scale =
        load_weights<PH_F16>(reinterpret_cast<const uint8_t*>(a.block_scales(block) + size_t(g) * BLOCK));
    for (int r = 0; r < rows; r++) {
      const int32_t* at = dots + r * PARTS * BLOCK;
      const int32_t* less = code_sums + size_t(r) * PARTS * x.groups + g;
      Floats dot = to_floats(load<Ints>(at) - met_with<BITS>() * less[0]);
      if (PARTS == 2) {
        const Ints rest = load<Ints>(at + (PARTS - 1) * BLOCK) - met_with<BITS>() * less[(PARTS - 1) * x.groups];
        dot += to_floats(rest) * (1.0f / 254);
      }
      sums[r] += dot * (scale * splat(x_scales[size_t(r) * x.groups + g]));
    }
  }
  for (int r = 0; r < rows; r++) finish(a, to, block, row + r, 0, sums[r] * splat(a.unit));
}

template <int BITS, int PARTS>
void tiled(const Weights& a, int begin, int end, const QuantRows& x, int rows, const Target& to) {
  constexpr int AT_ONCE = 16 * TILES / PARTS;
  const int depth = a.group < 64 ? 32 : 64;
  shape_tiles(depth);
  for (int block = begin; block < end; block++)
    for (int row = 0; row < rows; row += AT_ONCE)
      tiled_block<BITS, PARTS>(a, block, x, row, rows - row < AT_ONCE ? rows - row : AT_ONCE, depth, to);
  _tile_release();
}

constexpr int TILED_LINES = 8;  // from how many lines of activations on a half-empty tile beats the vectors

#else

constexpr int TILED_LINES = 1 << 30;
template <int BITS, int PARTS>
void tiled(const Weights&, int, int, const QuantRows&, int, const Target&) {}

#endif

}  // namespace
}  // namespace ph
