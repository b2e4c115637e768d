// One portable binary that still uses the vector units of the machine at hand: a marked function is compiled for
// AVX-512, AVX2 and the baseline, and the loader picks. The bits do not depend on the choice, since -ffp-contract=off
// forbids the fused multiply-add that only the wider sets have. Mark plain functions, not templates or lambdas: those
// keep the baseline, unless they are inlined into a marked function.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__linux__)
#define TUBELETX_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TUBELETX_MULTIVERSION
#endif
