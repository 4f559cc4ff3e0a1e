// Aligned memory, in huge pages where it is large: weights are read from end to end for every token, and walking
// the page tables for 4 KiB pages would cost a tenth of that.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ph {

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// A zeroed, owned array aligned to a cache line.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t count) : size_(count) {
    const size_t huge = size_t{2} << 20, bytes = round_up(count * sizeof(T) + 64, 64);
    const bool large = bytes >= huge;
    const size_t whole = large ? round_up(bytes, huge) : bytes;
    data_ = static_cast<T*>(std::aligned_alloc(large ? huge : 64, whole));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (large) madvise(static_cast<void*>(data_), whole, MADV_HUGEPAGE);
#endif
    __builtin_memset(static_cast<void*>(data_), 0, whole);
  }
  ~Array() { std::free(data_); }
  Array(Array&& other) noexcept { *this = std::move(other); }
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ph
