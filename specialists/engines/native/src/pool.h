// A fixed set of threads that all run the same function and meet at barriers.
//
// A step of a small model takes a few hundred microseconds and meets forty times, so waiting is spinning first; who
// has spun for long (the other threads' processors are taken, or nothing is asked) sleeps in the kernel.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

namespace ph {

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  int size() const { return size_; }
  // Run work(argument, t) for t = 0 (the caller) to size - 1, and return when all are done.
  void run(void (*work)(void*, int), void* argument);
  void barrier();

 private:
  void serve(int t, int processor);
  const int size_;
  void (*work_)(void*, int) = nullptr;
  void* argument_ = nullptr;
  alignas(64) std::atomic<uint32_t> asked_{0};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<bool> over_{false};
  std::vector<std::thread> threads_;
};

}  // namespace ph
