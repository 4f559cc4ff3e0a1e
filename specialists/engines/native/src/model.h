// A decoder with its adapters, steering plans and sequences.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api.h"
#include "cache.h"
#include "matrix.h"
#include "pool.h"

namespace ph {
constexpr size_t NEAR = size_t{64} << 20;  // bytes up to which a model may lie in the cache of one core's neighbours

// A lock that is handed on in the order of arrival, near enough: who asks while it is held comes next, even if the
// holder asks again at once, as ph_steps does between two steps.
class Turns {
 public:
  void lock() {
    next_.lock();
    held_.lock();
    next_.unlock();
  }
  void unlock() { held_.unlock(); }

 private:
  std::mutex next_, held_;
};
}  // namespace ph

struct ph_context {
  explicit ph_context(int threads, const ph::Kernels* table) : pool(threads), kernels(table) {}
  ph::Pool pool;
  const ph::Kernels* kernels;
  ph::Turns busy;  // the threads serve one step at a time, of whichever model
};

namespace ph {

// The maps of a layer by what they read: they are computed together, and share an adapter's first product.
enum Site { SITE_QKV, SITE_O, SITE_GATE_UP, SITE_DOWN, SITES };
constexpr Site site_of(int map) {
  return map <= PH_V ? SITE_QKV : map == PH_O ? SITE_O : map <= PH_UP ? SITE_GATE_UP : SITE_DOWN;
}

struct Layer {
  Matrix maps[PH_MAPS];
  std::vector<float> norms[4];  // input, post-attention, queries', keys'
};

// The low-rank products of one site: all `a` in one matrix, one after another, each padded to whole blocks.
struct LowRank {
  Matrix a;
  struct Out {
    Matrix b;
    int at = 0;  // where this map's part of a.x begins; no blocks of `b` where the map is not adapted
  };
  Out maps[PH_MAPS];
};

struct Adapter {
  int kind = PH_F32;
  Arena memory;                // of `sites`
  std::vector<LowRank> sites;  // [layers * SITES]
  // What was given so far; packed into `sites` when it is complete for a site.
  struct Given {
    int rank, inputs, outputs;
    std::vector<float> a, b;
  };
  std::map<std::pair<int, int>, Given> given;  // (layer, map)
};

struct Entry {
  ph_entry head{};
  std::vector<float> vector, reader, gate;
};

// All heads of a plan at one layer: the rows of a matrix, read by one product.
struct Heads {
  int layer = 0;
  Matrix weights;
  std::vector<int> places;  // of each among the plan's heads
};

struct Plan {
  std::vector<Entry> entries;
  std::vector<Heads> heads;
  int head_count = 0;
};

// Numbers that users hold: never reused, so that a stale one names nothing.
template <class T>
class Numbered {
 public:
  int32_t add(std::unique_ptr<T> item) {
    items_[next_] = std::move(item);
    return next_++;
  }
  T* find(int32_t number) const {
    const auto at = items_.find(number);
    return at == items_.end() ? nullptr : at->second.get();
  }
  bool remove(int32_t number) { return items_.erase(number) > 0; }

 private:
  std::map<int32_t, std::unique_ptr<T>> items_;
  int32_t next_ = 0;
};

}  // namespace ph

// What a step works in; made once, for `shape.rows` tokens.
struct ph_scratch;

struct ph_model {
  ph_model(ph_context*, const ph_shape&, const float* inverse_frequencies);
  ~ph_model();

  ph_context* const context;
  const ph_shape shape;
  const int head_padded;              // head size, padded to 16
  ph::Arena memory;                   // of all weights
  std::vector<ph::Layer> layers;
  ph::Matrix embedding, head;
  bool tied = true;                   // no head was given: the embedding is read as one
  std::vector<float> final_norm;
  std::vector<float> cosines, sines;  // [context][head_size / 2]
  ph::Cache cache;
  ph::Numbered<ph::Sequence> sequences;
  ph::Numbered<ph::Adapter> adapters;
  ph::Numbered<ph::Plan> plans;
  std::unique_ptr<ph_scratch> scratch;

  size_t bytes() const;  // of all weights
  void mark_far();       // say of every matrix whether the model is too large for a cache
  const ph::Matrix& output() const { return tied ? embedding : head; }
  ph::Matrix* matrix(int layer, int map);
  std::vector<float>* vector(int layer, int which);
  // Throws std::invalid_argument naming the first part that is missing or of a wrong shape.
  void check() const;
};

namespace ph {

void pack_adapter(const ph_model& model, Adapter& adapter);
void pack_heads(const ph_model& model, Plan& plan, const ph_head* heads, int count);
void step(ph_model& model, ph_run* runs, int count);

}  // namespace ph
