// Lets one header of mathematics serve the host compiler and nvcc.
#pragma once

#ifdef __CUDACC__
#define TUBELETX_HOST_DEVICE __host__ __device__
#else
#define TUBELETX_HOST_DEVICE
#endif
