// The C interface: checks what comes in, takes the lock, turns exceptions into codes.
#include "api.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.h"
#include "scratch.h"

using namespace ph;

static thread_local std::string last_error;

static int fail(int code, const std::string& what) {
  last_error = what;
  return code;
}

template <class Work>
static int guarded(Work work) {
  try {
    return work();
  } catch (const std::invalid_argument& error) {
    return fail(PH_BAD_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return fail(PH_OUT_OF_CACHE, "the system has no memory left");
  } catch (const std::exception& error) {
    return fail(PH_FAILED, error.what());
  }
}

// As `guarded`, while no step is under way.
template <class Work>
static int locked(ph_model* model, Work work) {
  return guarded([&] {
    const std::lock_guard<Turns> lock(model->context->busy);
    return work();
  });
}

static void require(bool condition, const std::string& what) {
  if (!condition) throw std::invalid_argument(what);
}

const char* ph_error() { return last_error.c_str(); }

const char* ph_kernels() {
  static const std::string names = [] {
    int count = 0;
    const Kernels* const* usable = usable_kernels(&count);
    std::string found;
    for (int i = 0; i < count; i++) found += (i ? " " : "") + std::string(usable[i]->name);
    return found;
  }();
  return names.c_str();
}

// -- context and model ----------------------------------------------------------------------------------------------

ph_context* ph_context_new(int32_t threads, const char* kernels) {
  const Kernels* table = find_kernels(kernels);
  if (table == nullptr || threads < 1 || threads > 1024) {
    fail(PH_BAD_ARGUMENT, table == nullptr ? "these kernels are not usable here" : "threads must be 1 to 1024");
    return nullptr;
  }
  ph_context* made = nullptr;
  guarded([&] {
    made = new ph_context(threads, table);
    return PH_OK;
  });
  return made;
}

const char* ph_context_kernels(const ph_context* context) { return context->kernels->name; }

void ph_context_free(ph_context* context) { delete context; }

int ph_read(ph_context* context, int64_t bytes, int32_t rounds, double* seconds) {
  return guarded([&] {
    require(bytes > 0 && rounds > 0, "nothing to read");
    const std::lock_guard<Turns> lock(context->busy);
    struct Job {
      ph_context* context;
      Array<uint8_t> memory;
      std::vector<uint32_t> sums;
    };
    const size_t share = round_up(size_t(bytes) / size_t(context->pool.size()) + 1, 256);
    Job job{context, Array<uint8_t>(share * size_t(context->pool.size())), {}};
    job.sums.resize(size_t(context->pool.size()));
    // Pages that nobody wrote are all one page of zeros, which is read from the cache.
    std::memset(job.memory.data(), 1, job.memory.bytes());
    for (int round = 0; round < rounds; round++) {
      const auto begun = std::chrono::steady_clock::now();
      context->pool.run(
          [](void* given, int t) {
            Job& one = *static_cast<Job*>(given);
            const size_t part = one.memory.size() / one.sums.size();
            one.sums[size_t(t)] += one.context->kernels->read(one.memory.data() + size_t(t) * part, part);
          },
          &job);
      seconds[round] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    }
    return PH_OK;
  });
}

ph_model* ph_model_new(ph_context* context, const ph_shape* shape, const float* inverse_frequencies) {
  ph_model* made = nullptr;
  guarded([&] {
    made = new ph_model(context, *shape, inverse_frequencies);
    return PH_OK;
  });
  return made;
}

int ph_model_matrix(ph_model* model, int32_t layer, int32_t map, const ph_matrix* source) {
  return locked(model, [&] {
    Matrix* to = model->matrix(layer, map);
    require(to != nullptr, "there is no map " + std::to_string(map) + " in layer " + std::to_string(layer));
    *to = pack(*source, &model->memory);
    if (to == &model->head) model->tied = false;
    model->scratch.reset();
    return PH_OK;
  });
}

int ph_model_vector(ph_model* model, int32_t layer, int32_t which, const float* data, int32_t count) {
  return locked(model, [&] {
    std::vector<float>* to = model->vector(layer, which);
    require(to != nullptr && count > 0, "there is no vector " + std::to_string(which) + " in layer " +
                                            std::to_string(layer));
    to->assign(data, data + count);
    return PH_OK;
  });
}

int ph_model_ready(ph_model* model) {
  return locked(model, [&] {
    model->check();
    model->mark_far();
    model->scratch = std::make_unique<ph_scratch>(*model);
    return PH_OK;
  });
}

int ph_model_row(const ph_model* model, int32_t layer, int32_t map, int32_t row, float* out) {
  return guarded([&] {
    const Matrix* from = const_cast<ph_model*>(model)->matrix(layer, map);
    if (from == &model->head && model->tied) from = &model->embedding;
    require(from != nullptr && row >= 0 && row < from->rows, "there is no row " + std::to_string(row));
    from->unpack_row(row, out);
    return PH_OK;
  });
}

int64_t ph_model_bytes(const ph_model* model) {
  return int64_t(model->bytes());
}

void ph_model_free(ph_model* model) { delete model; }

// -- sequences ------------------------------------------------------------------------------------------------------

int ph_sequence_new(ph_model* model, int32_t* sequence) {
  return locked(model, [&] {
    *sequence = model->sequences.add(std::make_unique<Sequence>());
    return PH_OK;
  });
}

int ph_sequence_fork(ph_model* model, int32_t sequence, int32_t tokens, int32_t* fork) {
  return locked(model, [&] {
    const Sequence* from = model->sequences.find(sequence);
    require(from != nullptr && tokens >= 0 && tokens <= from->length,
            "sequence " + std::to_string(sequence) + " has no first " + std::to_string(tokens) + " tokens");
    std::unique_ptr<Sequence> twin = model->cache.fork(*from, tokens);
    if (twin == nullptr) return fail(PH_OUT_OF_CACHE, "the cache's memory is used up");
    *fork = model->sequences.add(std::move(twin));
    return int(PH_OK);
  });
}

int ph_sequence_free(ph_model* model, int32_t sequence) {
  return locked(model, [&] {
    require(model->sequences.remove(sequence), "there is no sequence " + std::to_string(sequence));
    return PH_OK;
  });
}

int64_t ph_cache_bytes(ph_model* model) {
  const std::lock_guard<Turns> lock(model->context->busy);
  return model->cache.bytes();
}

// -- adapters and plans ---------------------------------------------------------------------------------------------

int ph_adapter_new(ph_model* model, int32_t kind, int32_t* adapter) {
  return locked(model, [&] {
    require(is_dense(kind), "adapters are kept as 0 (float), 1 (bf16), 16 (f16) or 9 (bytes)");
    auto made = std::make_unique<Adapter>();
    made->kind = kind;
    *adapter = model->adapters.add(std::move(made));
    return PH_OK;
  });
}

int ph_adapter_product(ph_model* model, int32_t adapter, int32_t layer, int32_t map, int32_t rank, const float* a,
                       int32_t inputs, const float* b, int32_t outputs) {
  return locked(model, [&] {
    Adapter* to = model->adapters.find(adapter);
    const Matrix* weights = map < PH_MAPS ? model->matrix(layer, map) : nullptr;
    require(to != nullptr && to->sites.empty() && layer >= 0 && weights != nullptr && rank > 0 && rank <= 4096,
            "no such adapter, map or rank");
    require(weights->columns == inputs && weights->rows == outputs,
            "a product of " + std::to_string(outputs) + " x " + std::to_string(inputs) + " for a map of " +
                std::to_string(weights->rows) + " x " + std::to_string(weights->columns));
    Adapter::Given& given = to->given[{layer, map}];
    given.rank = rank, given.inputs = inputs, given.outputs = outputs;
    given.a.assign(a, a + size_t(rank) * size_t(inputs));
    given.b.assign(b, b + size_t(outputs) * size_t(rank));
    return PH_OK;
  });
}

int ph_adapter_ready(ph_model* model, int32_t adapter) {
  return locked(model, [&] {
    Adapter* one = model->adapters.find(adapter);
    require(one != nullptr && one->sites.empty() && model->scratch != nullptr, "no such adapter, or it is ready");
    pack_adapter(*model, *one);
    for (const LowRank& low : one->sites) model->scratch->hold_low(model->shape.rows, size_t(low.a.blocks) * BLOCK);
    return PH_OK;
  });
}

int ph_adapter_free(ph_model* model, int32_t adapter) {
  return locked(model, [&] {
    require(model->adapters.remove(adapter), "there is no adapter " + std::to_string(adapter));
    return PH_OK;
  });
}

static Entry entry_of(const ph_entry& given, const ph_shape& shape) {
  require(given.kind >= PH_ADD && given.kind <= PH_SCALE, "steering of kind " + std::to_string(given.kind));
  require(given.layer >= 0 && given.layer < shape.layers && given.gate_layer <= given.layer,
          "steering at layer " + std::to_string(given.layer) + ", gated at " + std::to_string(given.gate_layer));
  require(given.vector != nullptr && (given.kind == PH_ADD || given.reader != nullptr) &&
              (given.gate_layer < 0 || given.gate != nullptr),
          "steering without its vector, reader or gate");
  Entry made;
  made.head = given;
  const size_t width = size_t(shape.width);
  made.vector.assign(given.vector, given.vector + width);
  if (given.reader != nullptr) made.reader.assign(given.reader, given.reader + width);
  if (given.gate_layer >= 0) made.gate.assign(given.gate, given.gate + width);
  made.head.vector = made.head.reader = made.head.gate = nullptr;  // the caller's memory, not kept
  return made;
}

int ph_plan_new(ph_model* model, const ph_entry* entries, int32_t entry_count, const ph_head* heads,
                int32_t head_count, int32_t* plan) {
  return locked(model, [&] {
    auto made = std::make_unique<Plan>();
    for (int i = 0; i < entry_count; i++) made->entries.push_back(entry_of(entries[i], model->shape));
    for (int i = 0; i < head_count; i++)
      require(heads[i].layer >= 0 && heads[i].layer < model->shape.layers && heads[i].weight != nullptr,
              "a head at layer " + std::to_string(heads[i].layer));
    pack_heads(*model, *made, heads, head_count);
    *plan = model->plans.add(std::move(made));
    return PH_OK;
  });
}

int ph_plan_free(ph_model* model, int32_t plan) {
  return locked(model, [&] {
    require(model->plans.remove(plan), "there is no plan " + std::to_string(plan));
    return PH_OK;
  });
}

// -- steps ----------------------------------------------------------------------------------------------------------

int ph_step(ph_model* model, ph_run* runs, int32_t count) {
  return locked(model, [&] {
    require(model->scratch != nullptr, "the model is not ready");
    step(*model, runs, count);
    return PH_OK;
  });
}

// Take over what a step drew for a run.
static void draw(const ph_run& from, ph_run& run, ph_more& more) {
  run.status = from.status;
  if (!run.draw || from.status != PH_OK) return;
  more.tokens[more.drawn] = from.token;
  more.logprobs[more.drawn++] = from.logprob;
}

// The run that reads the token that was drawn last.
static ph_run onward(const ph_run& run, const ph_more& more) {
  ph_run next{};
  next.tokens = more.tokens + more.drawn - 1;
  next.count = 1, next.generation = 1, next.draw = 1;
  next.sequence = run.sequence, next.adapter = run.adapter, next.plan = run.plan;
  return next;
}

int ph_steps(ph_model* model, ph_run* runs, ph_more* more, int32_t count, const int32_t* stops, int32_t stops_count) {
  std::vector<ph_run> now(runs, runs + count);
  std::vector<int> whose(size_t(count), 0);
  for (int i = 0; i < count; i++) {
    if (more[i].most < 1) return fail(PH_BAD_ARGUMENT, "a run draws " + std::to_string(more[i].most) + " tokens");
    whose[size_t(i)] = i, more[i].drawn = 0;
  }
  while (!now.empty()) {
    if (const int code = ph_step(model, now.data(), int32_t(now.size())); code != PH_OK) return code;
    for (size_t k = 0; k < now.size(); k++) draw(now[k], runs[whose[k]], more[whose[k]]);
    std::vector<int> left;
    for (const int i : whose) {
      const bool going = runs[i].draw && runs[i].status == PH_OK && more[i].drawn < more[i].most;
      if (going && std::find(stops, stops + stops_count, more[i].tokens[more[i].drawn - 1]) == stops + stops_count)
        left.push_back(i);
    }
    now.clear();
    for (const int i : left) now.push_back(onward(runs[i], more[i]));
    whose.swap(left);
  }
  return PH_OK;
}
