#include "cache.h"

#include <cstring>

namespace ph {

Cache::Store::~Store() {
  for (Array<float>* block : spare) delete block;
}

Cache::Cache(const CacheShape& shape, int64_t most_bytes)
    : shape_(shape),
      most_blocks_(most_bytes / int64_t(shape.block_floats() * sizeof(float))),
      store_(std::make_shared<Store>()) {}

int64_t Cache::bytes() const { return store_->used * int64_t(shape_.block_floats() * sizeof(float)); }

Block Cache::take() {
  if (store_->used >= most_blocks_) return nullptr;
  Array<float>* block = nullptr;
  if (store_->spare.empty()) {
    block = new Array<float>(shape_.block_floats(), &store_->pages);
  } else {
    block = store_->spare.back();
    store_->spare.pop_back();
  }
  store_->used++;
  std::shared_ptr<Store> store = store_;
  return Block(block, [store](Array<float>* given_back) {
    store->used--;
    store->spare.push_back(given_back);
  });
}

bool Cache::grow(Sequence& sequence, int tokens) {
  const size_t before = sequence.blocks.size();
  const size_t wanted = (size_t(sequence.length) + size_t(tokens) + POSITIONS - 1) / POSITIONS;
  while (sequence.blocks.size() < wanted) {
    Block block = take();
    if (block == nullptr) {
      sequence.blocks.resize(before);
      return false;
    }
    sequence.blocks.push_back(std::move(block));
  }
  return true;
}

std::unique_ptr<Sequence> Cache::fork(const Sequence& sequence, int tokens) {
  auto twin = std::make_unique<Sequence>();
  const size_t whole = size_t(tokens) / POSITIONS;
  twin->blocks.assign(sequence.blocks.begin(), sequence.blocks.begin() + long(whole));
  twin->length = tokens;
  if (size_t(tokens) > whole * POSITIONS) {
    Block last = take();
    if (last == nullptr) return nullptr;
    std::memcpy(last->data(), sequence.blocks[whole]->data(), last->bytes());
    twin->blocks.push_back(std::move(last));
  }
  return twin;
}

}  // namespace ph
