// Keys and values of sequences, in blocks of 32 tokens that sequences with the same beginning share.
//
// A block holds all layers: for each layer and key-value head, keys [size][32] and then values [32][size]. A sequence
// writes only its last block. Full blocks are never written again, so a fork shares them and copies the rest.
#pragma once
#include <memory>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace ph {

struct CacheShape {
  int layers = 0, groups = 0, size = 0;  // size: of a head, padded to 16
  size_t head_floats() const { return 2 * size_t(size) * POSITIONS; }
  size_t block_floats() const { return size_t(layers) * size_t(groups) * head_floats(); }
};

using Block = std::shared_ptr<Array<float>>;

struct Sequence {
  std::vector<Block> blocks;
  int length = 0;
  float* head(const CacheShape& shape, int block, int layer, int group) const {
    return blocks[size_t(block)]->data() + (size_t(layer) * size_t(shape.groups) + size_t(group)) * shape.head_floats();
  }
};

class Cache {
 public:
  Cache(const CacheShape& shape, int64_t most_bytes);
  const CacheShape& shape() const { return shape_; }
  // Make room for `tokens` more; false (and nothing changed) if that takes more memory than allowed.
  bool grow(Sequence& sequence, int tokens);
  // A sequence that starts with the first `tokens` of another. Empty if there is no memory for its last block.
  std::unique_ptr<Sequence> fork(const Sequence& sequence, int tokens);
  int64_t bytes() const;

 private:
  Block take();
  CacheShape shape_;
  int64_t most_blocks_;
  // Blocks in use and given back. A block returns to `spare` when its last sequence lets go of it, which may be
  // after the cache is gone: then it is freed.
  struct Store {
    Arena pages;  // huge ones, for a step reads all of its sequences' blocks
    std::vector<Array<float>*> spare;
    int64_t used = 0;
    ~Store();
  };
  std::shared_ptr<Store> store_;
};

}  // namespace ph
