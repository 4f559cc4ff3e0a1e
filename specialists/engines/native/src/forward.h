// The forward pass over the rows of one step, as each thread of the pool runs it.
#pragma once
#include <vector>

#include "scratch.h"

namespace ph {

struct Row {  // one token
  ph_run* run = nullptr;
  Sequence* sequence = nullptr;
  const Adapter* adapter = nullptr;
  const Plan* plan = nullptr;
  int index = 0, position = 0;  // in its run, and in its sequence
  bool wanted = false;          // its logits
  std::vector<uint8_t> gates;  // [entries of the plan]: open or not, once their layer was passed
};

class Forward {
 public:
  Forward(ph_model& model, std::vector<Row>& rows);
  void work(int t);

 private:
  struct Span {  // rows [begin, end) that follow each other and run the same adapter
    int begin, end;
    const Adapter* adapter;
  };
  struct Part {
    int begin, end;
  };

  Part share(int count, int t) const;  // thread t's part of `count` things
  void embed(int t);
  void attention_inputs(int layer, int t);
  void attention(int layer, int t);
  void attend_row(int layer, int row, int group, int t);
  void write_cache(int layer, int row, int group);
  void attention_output(int layer, int t);
  void feed_forward(int layer, int t);
  bool meets_after(int layer) const;
  void after_layer(int layer, int t);
  void finish(int t);
  void head_rows(int first, int count, int t);
  void report(int first, int count);

  const Input& normalized(const std::vector<float>& weight, const Matrix* const* readers, int count, int t);
  const Input& prepared(Rows& rows, const Matrix* const* readers, int count, int t);
  void quantize_row(const float* x, int row, const Input& input, const Matrix* const* readers, int count);
  void views(QuantMemory* memory, Input& input, const Matrix* const* readers, int count);
  void adapters_in(int layer, Site site, const Input& input, int t);
  void product(int layer, int map, const Input& input, Part blocks, Rows& to, bool add);

  ph_model& model_;
  ph_scratch& scratch_;
  const Kernels& kernels_;
  std::vector<Row>& rows_;
  const int count_, threads_;
  std::vector<Span> spans_;       // rows with adapters
  std::vector<int> wanted_;       // rows whose logits are
  std::vector<uint8_t> touched_;  // [layers]: whether steering, taps or heads look at any row there
  bool many_ = false;             // some sequence has several rows, which read each other's keys
  std::vector<Input> inputs_;     // [threads]
};

// What happens to one token's residual stream after a layer: it is tapped, gates are read, vectors act, heads read.
void intervene(const Kernels& kernels, const ph_shape& shape, Row& row, int layer, float* x);

}  // namespace ph
