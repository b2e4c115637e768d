// Matrix products on the calling thread alone.
#pragma once

#if defined(__linux__)
// Exported by torch builds that carry MKL; null in the others.
extern "C" [[gnu::weak]] int MKL_Set_Num_Threads_Local(int count);
#endif

namespace tubeletx::cpu {

/// While it lives, the matrix products of the calling thread use that thread only. Inside a parallel region they would
/// anyway, but MKL still cuts a sum into as many parts as torch has threads, so that the bits depend on their number.
class SingleThreadedBlas {
 public:
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;

#if defined(__linux__)
  SingleThreadedBlas() : previous_(MKL_Set_Num_Threads_Local != nullptr ? MKL_Set_Num_Threads_Local(1) : 0) {}
  ~SingleThreadedBlas() {
    if (MKL_Set_Num_Threads_Local != nullptr) MKL_Set_Num_Threads_Local(previous_);
  }

 private:
  int previous_;
#else
  SingleThreadedBlas() {}
  ~SingleThreadedBlas() {}
#endif
};

}  // namespace tubeletx::cpu
