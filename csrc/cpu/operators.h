// The CPU operators, in the order of csrc/ops/schemas.cpp, where their arguments are declared.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

namespace tubeletx::cpu {

using torch::stable::Tensor;
using TensorList = std::vector<Tensor>;

Tensor interpolate_keyframes(const Tensor& frames, const Tensor& values, const std::optional<Tensor>& easing,
                             int64_t num_frames);

Tensor smooth_path(const Tensor& points, double sigma, const std::optional<Tensor>& extent,
                   const std::optional<Tensor>& offset, int64_t num_frames);

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sample_tubelets(
    const Tensor& sample_ids, int64_t seed, int64_t epoch, int64_t num_frames, int64_t height, int64_t width,
    const std::vector<double>& settings);

Tensor crop_patches(const Tensor& clip, const Tensor& patch_frame, const Tensor& patch_box, int64_t height,
                    int64_t width);

TensorList paste_tubelets(const TensorList& clips, const Tensor& patches, const Tensor& patch_size,
                          const Tensor& centers, const Tensor& linear, const Tensor& shape, const Tensor& edge,
                          const Tensor& opacity, const Tensor& order, const std::optional<Tensor>& offsets);

void paste_tubelets_(const TensorList& clips, const Tensor& patches, const Tensor& patch_size, const Tensor& centers,
                     const Tensor& linear, const Tensor& shape, const Tensor& edge, const Tensor& opacity,
                     const Tensor& order, const std::optional<Tensor>& offsets);

std::tuple<TensorList, Tensor> paste_tubelets_backward(const TensorList& gradients, const TensorList& clips,
                                                       const Tensor& patches, const Tensor& patch_size,
                                                       const Tensor& centers, const Tensor& linear, const Tensor& shape,
                                                       const Tensor& edge, const Tensor& opacity, const Tensor& order,
                                                       const std::optional<Tensor>& offsets);

std::tuple<Tensor, Tensor, Tensor, Tensor> queue_infonce(const Tensor& query, const Tensor& key, const Tensor& queue,
                                                         const std::optional<Tensor>& own_negatives, double temperature,
                                                         bool need_gradient);

void enqueue_(const Tensor& queue, const Tensor& pointer, const Tensor& keys);

}  // namespace tubeletx::cpu
