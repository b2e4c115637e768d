// Lets one header of mathematics serve the host compiler and nvcc.
#pragma once

#ifdef __CUDACC__
#define TUBELETX_HOST_DEVICE __host__ __device__
#else
#define TUBELETX_HOST_DEVICE
#endif

// For the arithmetic of inner loops: inlined without fail, so that it is compiled for the instruction set of its
// caller.
#if defined(__CUDACC__)
#define TUBELETX_INLINE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define TUBELETX_INLINE inline __attribute__((always_inline))
#else
#define TUBELETX_INLINE inline
#endif

// For what a kernel does in several places, but never in its innermost loop: code that runs once is fetched from far.
#ifdef __CUDACC__
#define TUBELETX_OUTLINE __host__ __device__ __noinline__
#else
#define TUBELETX_OUTLINE
#endif

// Before a loop whose rounds do not depend on each other, which its compiler cannot see.
#if defined(__clang__)
#define TUBELETX_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define TUBELETX_INDEPENDENT _Pragma("GCC ivdep")
#else
#define TUBELETX_INDEPENDENT
#endif

// Before a loop whose arrays must stay in registers, and before one whose code shall stay short. Host compilers need no
// such hints, and warn of them.
#ifdef __CUDA_ARCH__
#define TUBELETX_UNROLL _Pragma("unroll")
#define TUBELETX_ROLL _Pragma("unroll 1")
#else
#define TUBELETX_UNROLL
#define TUBELETX_ROLL
#endif
