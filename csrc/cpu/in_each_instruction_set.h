// Includes TUBELETX_LOOPS, a header of loops on the names of vector.h, in the namespace of each instruction set, with
// TUBELETX_TARGET its attribute. Hence no include guard.
#ifdef TUBELETX_VECTOR_CODE
#ifdef TUBELETX_NEON

namespace tubeletx::cpu::neon {
#define TUBELETX_TARGET
#include TUBELETX_LOOPS
#undef TUBELETX_TARGET
}  // namespace tubeletx::cpu::neon

#else

namespace tubeletx::cpu::avx512 {
#define TUBELETX_TARGET TUBELETX_AVX512
#include TUBELETX_LOOPS
#undef TUBELETX_TARGET
}  // namespace tubeletx::cpu::avx512

namespace tubeletx::cpu::avx2 {
#define TUBELETX_TARGET TUBELETX_AVX2
#include TUBELETX_LOOPS
#undef TUBELETX_TARGET
}  // namespace tubeletx::cpu::avx2

#endif
#endif

#undef TUBELETX_LOOPS
