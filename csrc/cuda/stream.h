// Where launchers queue their kernels.
#pragma once

struct CUstream_st;

namespace tubeletx::cuda {

using Stream = CUstream_st*;  // cudaStream_t, also where there is no CUDA header

}  // namespace tubeletx::cuda
