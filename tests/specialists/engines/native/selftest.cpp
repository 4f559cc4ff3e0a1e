// The native engine through its own C interface, for builds with sanitizers. Prints nothing and returns 0 if all holds.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "api.h"

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) {                                                           \
      std::fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, ph_error()); \
      std::exit(1);                                                               \
    }                                                                             \
  } while (0)

namespace {

constexpr int VOCABULARY = 70, WIDTH = 40, INNER = 72, LAYERS = 2, HEADS = 4, GROUPS = 2, SIZE = 10, CONTEXT = 96;

struct Random {
  uint64_t state;
  float next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return float(int32_t(state >> 33)) / float(1 << 30) - 1.0f;
  }
  std::vector<float> many(size_t count, float scale) {
    std::vector<float> found(count);
    for (float& x : found) x = next() * scale;
    return found;
  }
};

void matrix(ph_model* model, Random& random, int layer, int map, int kind, int rows, int columns) {
  ph_matrix m{};
  m.kind = kind, m.rows = rows, m.columns = columns, m.group = 32;
  const std::vector<float> bias = random.many(size_t(rows), 0.1f);
  if (map <= PH_V) m.bias = bias.data();
  if (kind == PH_F32) {
    const std::vector<float> data = random.many(size_t(rows) * size_t(columns), 0.3f);
    m.data = data.data();
    CHECK(ph_model_matrix(model, layer, map, &m) == PH_OK);
    return;
  }
  if (kind == PH_BF16 || kind == PH_F16) {
    std::vector<uint16_t> data(size_t(rows) * size_t(columns));
    for (uint16_t& x : data) x = uint16_t((kind == PH_BF16 ? 0x3e00 : 0x3000) | (int(random.next() * 127) & 0x80ff));
    m.data = data.data();
    CHECK(ph_model_matrix(model, layer, map, &m) == PH_OK);
    return;
  }
  const int groups = (columns + 31) / 32, top = (1 << (kind - 1)) - 1;
  std::vector<int8_t> codes(size_t(rows) * size_t(columns));
  for (int8_t& code : codes) code = int8_t(std::lrint(random.next() * float(top)));
  std::vector<float> scales = random.many(size_t(rows) * size_t(groups), 0.1f / float(top));
  for (float& scale : scales) scale = std::fabs(scale);
  m.data = codes.data(), m.scales = scales.data();
  CHECK(ph_model_matrix(model, layer, map, &m) == PH_OK);
}

// A small model with a different kind of weights at every map.
ph_model* make(ph_context* context, int64_t cache_bytes = 1 << 24) {
  ph_shape shape{};
  shape.vocabulary = VOCABULARY, shape.width = WIDTH, shape.inner = INNER, shape.layers = LAYERS, shape.heads = HEADS;
  shape.groups = GROUPS, shape.head_size = SIZE, shape.context = CONTEXT, shape.rows = 64, shape.parts = 2;
  shape.epsilon = 1e-6f, shape.cache_bytes = cache_bytes;
  Random random{7};
  std::vector<float> frequencies(SIZE / 2);
  for (size_t i = 0; i < frequencies.size(); i++) frequencies[i] = 1.0f / std::pow(10000.0f, float(2 * i) / SIZE);
  ph_model* model = ph_model_new(context, &shape, frequencies.data());
  CHECK(model != nullptr);
  const int q = HEADS * SIZE, k = GROUPS * SIZE;
  const int rows[] = {q, k, k, WIDTH, INNER, INNER, WIDTH}, columns[] = {WIDTH, WIDTH, WIDTH, q, WIDTH, WIDTH, INNER};
  const int kinds[LAYERS][7] = {{PH_INT8, PH_INT4, PH_BF16, PH_INT3, PH_F16, PH_F32, PH_INT2},
                                {PH_F32, PH_F32, PH_INT8, PH_INT4, PH_INT4, PH_INT4, PH_INT8}};
  for (int layer = 0; layer < LAYERS; layer++) {
    for (int map = 0; map < 7; map++) matrix(model, random, layer, map, kinds[layer][map], rows[map], columns[map]);
    for (int norm = PH_NORM_INPUT; norm <= PH_NORM_K; norm++) {
      const std::vector<float> weight(norm <= PH_NORM_POST ? WIDTH : SIZE, 1.1f);
      CHECK(ph_model_vector(model, layer, norm, weight.data(), int(weight.size())) == PH_OK);
    }
  }
  const std::vector<float> last(WIDTH, 0.9f);
  CHECK(ph_model_vector(model, -1, PH_NORM_FINAL, last.data(), WIDTH) == PH_OK);
  CHECK(ph_model_ready(model) == PH_BAD_ARGUMENT);  // no embedding yet
  matrix(model, random, -1, PH_EMBED, PH_INT8, VOCABULARY, WIDTH);
  CHECK(ph_model_ready(model) == PH_OK);
  return model;
}

int32_t adapter(ph_model* model, uint64_t seed, int rank) {
  Random random{seed};
  int32_t number = -1;
  CHECK(ph_adapter_new(model, PH_F16, &number) == PH_OK);
  for (int layer = 0; layer < LAYERS; layer++)
    for (int map : {PH_Q, PH_V, PH_O, PH_UP, PH_DOWN}) {
      const int inputs = map == PH_DOWN ? INNER : map == PH_O ? HEADS * SIZE : WIDTH;
      const int outputs = map == PH_Q ? HEADS * SIZE : map == PH_V ? GROUPS * SIZE : map == PH_UP ? INNER : WIDTH;
      const std::vector<float> a = random.many(size_t(rank * inputs), 0.3f), b = random.many(size_t(rank * outputs), 0.3f);
      CHECK(ph_adapter_product(model, number, layer, map, rank, a.data(), inputs, b.data(), outputs) == PH_OK);
      CHECK(ph_adapter_product(model, number, layer, map, rank, a.data(), inputs + 1, b.data(), outputs) ==
            PH_BAD_ARGUMENT);
    }
  CHECK(ph_adapter_ready(model, number) == PH_OK);
  return number;
}

int32_t plan(ph_model* model, uint64_t seed, float coefficient) {
  Random random{seed};
  const std::vector<float> vector = random.many(WIDTH, 1), reader = random.many(WIDTH, 1), gate = random.many(WIDTH, 1);
  ph_entry entries[2]{};
  entries[0].kind = PH_ADD, entries[0].layer = 1, entries[0].gate_layer = 0, entries[0].in_generation = 1;
  entries[0].coefficient = coefficient, entries[0].vector = vector.data(), entries[0].gate = gate.data();
  entries[1].kind = PH_CLAMP_FEATURE, entries[1].layer = 0, entries[1].gate_layer = -1, entries[1].in_prompt = 1;
  entries[1].coefficient = 2, entries[1].vector = vector.data(), entries[1].reader = reader.data();
  ph_head head{1, 0.5f, reader.data()};
  int32_t number = -1;
  CHECK(ph_plan_new(model, entries, 2, &head, 1, &number) == PH_OK);
  entries[0].layer = LAYERS;
  int32_t none = -1;
  CHECK(ph_plan_new(model, entries, 2, &head, 1, &none) == PH_BAD_ARGUMENT);
  return number;
}

struct Asked {
  std::vector<int32_t> tokens;
  int32_t adapter = -1, plan = -1;
};

struct Told {
  std::vector<float> logits, states, readings;
  bool operator==(const Told& other) const {
    return logits == other.logits && states == other.states && readings == other.readings;
  }
};

ph_run run_of(const Asked& asked, int32_t sequence, int begin, int end, Told& told) {
  static const int32_t layers[] = {1, 0};
  ph_run run{};
  run.tokens = asked.tokens.data() + begin, run.count = end - begin, run.sequence = sequence;
  run.adapter = begin >= 8 ? asked.adapter : -1, run.plan = asked.plan, run.generation = begin >= 8, run.draw = 1;
  told.logits.resize(VOCABULARY), told.states.resize(size_t(2 * WIDTH * (end - begin)));
  told.readings.resize(asked.plan >= 0 ? size_t(end - begin) : 0);
  run.logits = told.logits.data(), run.taps = told.states.data(), run.tap_layers = layers, run.taps_count = 2;
  run.taps_stride = WIDTH * run.count;
  if (asked.plan >= 0) run.readings = told.readings.data();
  return run;
}

// Prompt of 8 tokens in one or several steps, then one token a step; all requests in every step.
std::vector<std::vector<Told>> serve(ph_model* model, const std::vector<Asked>& all, int chunk) {
  std::vector<int32_t> sequences(all.size());
  for (int32_t& sequence : sequences) CHECK(ph_sequence_new(model, &sequence) == PH_OK);
  std::vector<std::vector<Told>> told(all.size());
  for (int begin = 0; begin < int(all[0].tokens.size());) {
    const int end = begin < 8 ? (begin + chunk < 8 ? begin + chunk : 8) : begin + 1;
    std::vector<ph_run> runs;
    for (auto& one : told) one.emplace_back();
    for (size_t i = 0; i < all.size(); i++) runs.push_back(run_of(all[i], sequences[i], begin, end, told[i].back()));
    CHECK(ph_step(model, runs.data(), int(runs.size())) == PH_OK);
    for (const ph_run& run : runs) CHECK(run.status == PH_OK && std::isfinite(run.logprob) && run.logprob <= 0);
    begin = end;
  }
  for (int32_t sequence : sequences) CHECK(ph_sequence_free(model, sequence) == PH_OK);
  return told;
}

void same_alone_and_together(ph_model* model, const std::vector<Asked>& all) {
  const auto together = serve(model, all, 8), pieces = serve(model, all, 3);
  for (size_t i = 0; i < all.size(); i++) {
    const auto alone = serve(model, {all[i]}, 8);
    CHECK(alone[0] == together[i]);
    CHECK(pieces[i].back() == together[i].back());
  }
}

// How many tokens come, up to `total` or one of `stops`, at most `most` a call.
int drawn(ph_model* model, std::vector<int32_t>& to, int total, int most, const std::vector<int32_t>& stops) {
  const Asked asked{{5, 6, 7, 8}};
  std::vector<float> logprobs(size_t(total), 0.0f);
  int32_t sequence = -1, token = -1;
  int made = 0;
  CHECK(ph_sequence_new(model, &sequence) == PH_OK);
  for (bool ended = false; !ended && made < total;) {
    Told told;
    ph_run run = run_of(asked, sequence, 0, 4, told);
    run.taps_count = 0;
    if (made > 0) run.tokens = &token, run.count = 1, run.generation = 1;
    ph_more more{to.data() + made, logprobs.data(), most < total - made ? most : total - made, -1};
    CHECK(ph_steps(model, &run, &more, 1, stops.data(), int32_t(stops.size())) == PH_OK && run.status == PH_OK);
    CHECK(more.drawn >= 1 && more.drawn <= more.most);
    made += more.drawn, token = to[size_t(made) - 1];
    for (int32_t stop : stops) ended |= stop == token;
  }
  CHECK(ph_sequence_free(model, sequence) == PH_OK);
  return made;
}

// Several tokens in one call are those of as many steps, also where one of them ends the answer.
void goes_on_by_itself(ph_model* model) {
  std::vector<int32_t> first(9), second(9), third(9);
  CHECK(drawn(model, first, 9, 1, {}) == 9 && drawn(model, second, 9, 9, {}) == 9 && first == second);
  const int cut = drawn(model, third, 9, 9, {first[4]});
  CHECK(cut <= 5 && third[size_t(cut) - 1] == first[4]);
  ph_run run{};
  ph_more none{first.data(), nullptr, 0, -1};
  CHECK(ph_steps(model, &run, &none, 1, nullptr, 0) == PH_BAD_ARGUMENT);
}

void forks_go_their_own_way(ph_model* model) {
  Asked asked{std::vector<int32_t>(40, 5)};
  for (int i = 0; i < 40; i++) asked.tokens[size_t(i)] = (i * 7) % VOCABULARY;
  int32_t first = -1, second = -1, none = -1;
  CHECK(ph_sequence_new(model, &first) == PH_OK);
  Told read, left, right;
  ph_run run = run_of(asked, first, 0, 36, read);
  CHECK(ph_step(model, &run, 1) == PH_OK && run.status == PH_OK);
  CHECK(ph_sequence_fork(model, first, 37, &none) == PH_BAD_ARGUMENT);
  CHECK(ph_sequence_fork(model, first, 33, &second) == PH_OK);
  CHECK(ph_sequence_free(model, first) == PH_OK);  // what it shared stays
  run = run_of(asked, second, 33, 40, left);
  CHECK(ph_step(model, &run, 1) == PH_OK && run.status == PH_OK);
  CHECK(ph_sequence_free(model, second) == PH_OK);
  CHECK(ph_sequence_new(model, &first) == PH_OK);
  run = run_of(asked, first, 0, 33, read);
  CHECK(ph_step(model, &run, 1) == PH_OK);
  run = run_of(asked, first, 33, 40, right);
  CHECK(ph_step(model, &run, 1) == PH_OK);
  CHECK(left == right);
  CHECK(ph_sequence_free(model, first) == PH_OK && ph_sequence_free(model, first) == PH_BAD_ARGUMENT);
}

void bad_runs_fail_alone(ph_model* model, int32_t burst) {
  Asked good{{1, 2, 3, 4, 5, 6, 7, 8, 9}};
  const Told want = serve(model, {good}, 8)[0][0];
  int32_t sequences[5];
  for (int32_t& sequence : sequences) CHECK(ph_sequence_new(model, &sequence) == PH_OK);
  Asked wrong = good, long_one{std::vector<int32_t>(CONTEXT + 1, 3)}, loud = good;
  wrong.tokens[2] = VOCABULARY, loud.plan = burst;
  Told told[5];
  ph_run runs[5] = {run_of(wrong, sequences[0], 0, 8, told[0]), run_of(long_one, sequences[1], 0, CONTEXT + 1, told[1]),
                    run_of(good, sequences[2], 0, 8, told[2]), run_of(loud, sequences[3], 0, 8, told[3]),
                    run_of(good, 12345, 0, 8, told[4])};
  runs[3].generation = 1;
  CHECK(ph_step(model, runs, 5) == PH_OK);
  CHECK(runs[0].status == PH_BAD_ARGUMENT && runs[1].status != PH_OK && runs[4].status == PH_BAD_ARGUMENT);
  CHECK(runs[3].status == PH_NOT_FINITE);
  CHECK(runs[2].status == PH_OK && told[2].logits == want.logits);
  for (int32_t sequence : sequences) CHECK(ph_sequence_free(model, sequence) == PH_OK);
}

void memory_is_bounded(ph_context* context) {
  ph_model* model = make(context, 2 * 2 * LAYERS * GROUPS * 16 * 32 * 4);  // two blocks
  Asked asked{std::vector<int32_t>(40, 5)};
  int32_t first = -1, second = -1, fork = -1;
  CHECK(ph_sequence_new(model, &first) == PH_OK && ph_sequence_new(model, &second) == PH_OK);
  Told told[2];
  ph_run runs[2] = {run_of(asked, first, 0, 30, told[0]), run_of(asked, second, 0, 33, told[1])};
  CHECK(ph_step(model, runs, 2) == PH_OK);
  CHECK(runs[0].status == PH_OK && runs[1].status == PH_OUT_OF_CACHE);
  CHECK(ph_sequence_fork(model, first, 20, &fork) == PH_OK);  // the last block there is
  CHECK(ph_sequence_fork(model, first, 20, &second) == PH_OUT_OF_CACHE);
  CHECK(ph_sequence_free(model, first) == PH_OK && ph_cache_bytes(model) > 0);
  CHECK(ph_sequence_fork(model, fork, 20, &second) == PH_OK);
  ph_model_free(model);
}

// Several threads ask one model at once: they take turns.
void threads_take_turns(ph_model* model) {
  const Asked asked{{4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5}};
  const auto want = serve(model, {asked}, 8);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; t++) threads.emplace_back([&] { CHECK(serve(model, {asked}, 8) == want); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main() {
  std::string names = ph_kernels();
  for (size_t at = 0; at < names.size();) {
    const size_t end = names.find(' ', at) == std::string::npos ? names.size() : names.find(' ', at);
    const std::string kernels = names.substr(at, end - at);
    at = end + 1;
    std::vector<std::vector<Told>> one_thread;
    for (int threads : {1, 3}) {
      ph_context* context = ph_context_new(threads, kernels.c_str());
      CHECK(context != nullptr && kernels == ph_context_kernels(context));
      ph_model* model = make(context);
      const int32_t a = adapter(model, 11, 4), b = adapter(model, 13, 18);
      const int32_t p = plan(model, 17, 3.0f), burst = plan(model, 19, 3e38f);
      const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
      std::vector<Asked> all = {{tokens, -1, -1}, {tokens, a, -1}, {tokens, b, p}, {tokens, -1, p}, {tokens, b, -1}};
      all[3].tokens[4] = 60;
      same_alone_and_together(model, all);
      const auto told = serve(model, all, 8);
      CHECK(!(told[0].back() == told[1].back()) && !(told[1].back() == told[4].back()));
      if (threads == 1) one_thread = told;
      CHECK(told == one_thread);
      goes_on_by_itself(model);
      forks_go_their_own_way(model);
      bad_runs_fail_alone(model, burst);
      threads_take_turns(model);
      memory_is_bounded(context);
      CHECK(ph_adapter_free(model, a) == PH_OK && ph_plan_free(model, p) == PH_OK);
      ph_model_free(model);
      ph_context_free(context);
    }
  }
  CHECK(ph_context_new(1, "abacus") == nullptr);
  return 0;
}
