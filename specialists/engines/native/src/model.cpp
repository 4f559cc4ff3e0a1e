#include "model.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "scratch.h"

using namespace ph;

static CacheShape cache_shape(const ph_shape& shape, int head_padded) {
  CacheShape found;
  found.layers = shape.layers, found.groups = shape.groups, found.size = head_padded;
  return found;
}

static void require(bool condition, const std::string& what) {
  if (!condition) throw std::invalid_argument(what);
}

static const ph_shape& checked(const ph_shape& s) {
  const int32_t sizes[] = {s.vocabulary, s.width, s.inner, s.layers, s.heads, s.groups, s.head_size, s.context, s.rows};
  for (int32_t size : sizes) require(size > 0, "a size of " + std::to_string(size) + " in the model's shape");
  require(s.heads % s.groups == 0, "heads are no multiple of key-value heads");
  require(s.head_size % 2 == 0 && s.head_size <= 1024, "a head size that is odd or above 1024");
  require(s.parts == 1 || s.parts == 2, "parts of activations: 1 or 2");
  return s;
}

ph_model::ph_model(ph_context* of, const ph_shape& given, const float* inverse_frequencies)
    : context(of),
      shape(checked(given)),
      head_padded(int(round_up(size_t(given.head_size), 16))),
      layers(size_t(given.layers)),
      cache(cache_shape(given, head_padded), given.cache_bytes) {
  // As Hugging Face computes them: the angle in float, its cosine of that float.
  const int half = shape.head_size / 2;
  cosines.resize(size_t(shape.context) * size_t(half));
  sines.resize(cosines.size());
  for (int p = 0; p < shape.context; p++)
    for (int i = 0; i < half; i++) {
      const float angle = float(p) * inverse_frequencies[i];
      cosines[size_t(p) * size_t(half) + size_t(i)] = std::cos(angle);
      sines[size_t(p) * size_t(half) + size_t(i)] = std::sin(angle);
    }
}

ph_model::~ph_model() = default;

Matrix* ph_model::matrix(int layer, int map) {
  if (layer == -1) return map == PH_EMBED ? &embedding : map == PH_HEAD ? &head : nullptr;
  if (layer < 0 || layer >= shape.layers || map < 0 || map >= PH_MAPS) return nullptr;
  return &layers[size_t(layer)].maps[map];
}

std::vector<float>* ph_model::vector(int layer, int which) {
  if (layer == -1) return which == PH_NORM_FINAL ? &final_norm : nullptr;
  if (layer < 0 || layer >= shape.layers || which < 0 || which >= PH_NORM_FINAL) return nullptr;
  return &layers[size_t(layer)].norms[which];
}

static void check_matrix(const Matrix& m, int rows, int columns, const std::string& name) {
  require(m.rows == rows && m.columns == columns,
          name + " is " + std::to_string(m.rows) + " x " + std::to_string(m.columns) + ", not " + std::to_string(rows) +
              " x " + std::to_string(columns));
}

static void check_vector(const std::vector<float>& v, int count, const std::string& name) {
  require(v.size() == size_t(count), name + " has " + std::to_string(v.size()) + " numbers, not " +
                                         std::to_string(count));
}

void ph_model::check() const {
  const int queries = shape.heads * shape.head_size, keys = shape.groups * shape.head_size;
  const int rows[] = {queries, keys, keys, shape.width, shape.inner, shape.inner, shape.width};
  const int columns[] = {shape.width, shape.width, shape.width, queries, shape.width, shape.width, shape.inner};
  const char* names[] = {"q", "k", "v", "o", "gate", "up", "down"};
  for (int layer = 0; layer < shape.layers; layer++) {
    const std::string at = "layer " + std::to_string(layer) + " ";
    const Layer& one = layers[size_t(layer)];
    for (int map = 0; map < PH_MAPS; map++) check_matrix(one.maps[map], rows[map], columns[map], at + names[map]);
    check_vector(one.norms[PH_NORM_INPUT], shape.width, at + "input norm");
    check_vector(one.norms[PH_NORM_POST], shape.width, at + "post-attention norm");
    for (int which : {PH_NORM_Q, PH_NORM_K})
      if (!one.norms[which].empty()) check_vector(one.norms[which], shape.head_size, at + "head norm");
  }
  check_matrix(embedding, shape.vocabulary, shape.width, "the embedding");
  if (!tied) check_matrix(head, shape.vocabulary, shape.width, "the head");
  check_vector(final_norm, shape.width, "the final norm");
}

size_t ph_model::bytes() const {
  size_t all = embedding.bytes() + head.bytes();
  for (const Layer& layer : layers)
    for (const Matrix& m : layer.maps) all += m.bytes();
  return all;
}

void ph_model::mark_far() {
  const bool far = bytes() > NEAR;
  embedding.far = head.far = far;
  for (Layer& layer : layers)
    for (Matrix& m : layer.maps) m.far = far;
}

// -- adapters -------------------------------------------------------------------------------------------------------

// Bytes, and a scale for each row and group of columns, whose largest number becomes 127.
static void round_to_bytes(const float* data, int rows, int columns, int group, std::vector<int8_t>& codes,
                           std::vector<float>& scales) {
  for (int row = 0; row < rows; row++)
    for (int start = 0; start < columns; start += group) {
      const float* from = data + size_t(row) * size_t(columns) + size_t(start);
      const int count = columns - start < group ? columns - start : group;
      float most = 0;
      for (int i = 0; i < count; i++) most = std::fmax(most, std::fabs(from[i]));
      require(std::isfinite(most), "an adapter with numbers that are not finite");
      scales.push_back(most / 127);
      for (int i = 0; i < count; i++) codes.push_back(most > 1e-30f ? int8_t(std::lrint(from[i] * (127 / most))) : 0);
    }
}

// `group` is that of PH_INT8; the other kinds have none.
static Matrix pack_floats(const float* data, int rows, int columns, int kind, int group, const float* bias,
                          Arena* arena) {
  const size_t count = size_t(rows) * size_t(columns);
  std::vector<uint16_t> halves;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  ph_matrix source{};
  source.kind = kind, source.rows = rows, source.columns = columns, source.group = group, source.bias = bias;
  source.data = data;
  if (kind == PH_BYTE || kind == PH_INT8) {
    round_to_bytes(data, rows, columns, kind == PH_INT8 ? group : columns, codes, scales);
    source.data = codes.data(), source.scales = scales.data();
  } else if (kind != PH_F32) {
    halves.resize(count);
    for (size_t i = 0; i < count; i++) halves[i] = kind == PH_BF16 ? float_to_bf16(data[i]) : float_to_half(data[i]);
    source.data = halves.data();
  }
  return pack(source, arena);
}

// The group of columns in which activations meet the trunk's weights at this site as int8; 0 if they do not.
static int group_at(const ph_model& model, int layer, int site) {
  for (int map = 0; map < PH_MAPS; map++) {
    const Matrix& weights = model.layers[size_t(layer)].maps[map];
    if (site_of(map) == site && !weights.dense()) return weights.group;
  }
  return 0;
}

static void pack_site(const ph_model& model, Adapter& adapter, int layer, int site) {
  LowRank& to = adapter.sites[size_t(layer) * SITES + size_t(site)];
  std::vector<float> together;
  int inputs = 0, at = 0;
  for (int map = 0; map < PH_MAPS; map++) {
    const auto given = adapter.given.find({layer, map});
    if (site_of(map) != site || given == adapter.given.end()) continue;
    const Adapter::Given& one = given->second;
    inputs = one.inputs;
    const size_t padded = round_up(size_t(one.rank), BLOCK);
    together.insert(together.end(), one.a.begin(), one.a.end());
    together.resize((size_t(at) + padded) * size_t(inputs), 0.0f);
    LowRank::Out& out = to.maps[map];
    out.b = pack_floats(one.b.data(), one.outputs, one.rank, adapter.kind, 0, nullptr, &adapter.memory);
    out.at = at;
    at += int(padded);
  }
  if (at == 0) return;
  // Beside codes the first product takes the int8 activations that are there already.
  const int group = adapter.kind == PH_BYTE ? group_at(model, layer, site) : 0;
  to.a = pack_floats(together.data(), at, inputs, group > 0 ? int(PH_INT8) : adapter.kind, group, nullptr,
                     &adapter.memory);
}

void ph::pack_adapter(const ph_model& model, Adapter& adapter) {
  adapter.sites.resize(size_t(model.shape.layers) * SITES);
  for (int layer = 0; layer < model.shape.layers; layer++)
    for (int site = 0; site < SITES; site++) pack_site(model, adapter, layer, site);
  adapter.given.clear();
}

// -- heads ----------------------------------------------------------------------------------------------------------

void ph::pack_heads(const ph_model& model, Plan& plan, const ph_head* heads, int count) {
  const size_t width = size_t(model.shape.width);
  plan.head_count = count;
  for (int layer = 0; layer < model.shape.layers; layer++) {
    Heads here;
    std::vector<float> weights, biases;
    for (int i = 0; i < count; i++) {
      if (heads[i].layer != layer) continue;
      here.places.push_back(i), biases.push_back(heads[i].bias);
      weights.insert(weights.end(), heads[i].weight, heads[i].weight + width);
    }
    if (here.places.empty()) continue;
    here.layer = layer;
    here.weights = pack_floats(weights.data(), int(biases.size()), int(width), PH_F32, 0, biases.data(), nullptr);
    plan.heads.push_back(std::move(here));
  }
}
