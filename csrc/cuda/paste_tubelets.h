// Pasting onto floating-point clips and its gradients: the launchers.
#pragma once

#include <cstdint>

#include "cuda/stream.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cuda {

/// Bytes of device memory that pasting needs beside its arguments.
template <typename Pixel>
int64_t paste_workspace(const PasteArguments& arguments);

template <typename Pixel>
void launch_paste_tubelets(const PasteArguments& arguments, void* workspace, Stream stream);

template <typename Pixel>
int64_t paste_backward_workspace(const PasteArguments& arguments);

/// Takes the gradients of the pasted clips in the place of the clips and turns them into those of the clips in place;
/// `clips` are the clips before pasting, needed only where patches have their own alpha. `patches_gradient` is
/// contiguous, of the shape of the patches.
template <typename Pixel>
void launch_paste_tubelets_backward(const PasteArguments& arguments, const ClipView* clips, void* workspace,
                                    void* patches_gradient, Stream stream);

}  // namespace tubeletx::cuda
