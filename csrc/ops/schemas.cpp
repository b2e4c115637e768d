// Every operator of the library, on one screen. Implementations: csrc/cpu and csrc/cuda; shapes: tubeletx/ops.
#include <torch/csrc/stable/library.h>

#ifndef TUBELETX_NAMESPACE
#define TUBELETX_NAMESPACE tubeletx
#endif
#define TUBELETX_LIBRARY(name, library) STABLE_TORCH_LIBRARY(name, library)  // for the sake of its macro arguments

TUBELETX_LIBRARY(TUBELETX_NAMESPACE, library) {
  library.def("interpolate_keyframes(Tensor frames, Tensor values, Tensor? easing, SymInt num_frames) -> Tensor");
  library.def("smooth_path(Tensor points, float sigma, Tensor? extent, Tensor? offset, SymInt num_frames) -> Tensor");
  library.def(
      "sample_tubelets(Tensor sample_ids, SymInt seed, SymInt epoch, SymInt num_frames, SymInt height, SymInt width, "
      "float[] settings, Tensor? epoch_tensor=None) -> (Tensor numbers, Tensor integers)");
  library.def("crop_patches(Tensor clip, Tensor patch_frame, Tensor patch_box, SymInt height, SymInt width) -> Tensor");
  library.def(
      "paste_tubelets(Tensor[] clips, Tensor patches, Tensor patch_size, Tensor centers, Tensor linear, Tensor shape, "
      "Tensor edge, Tensor opacity, Tensor order, Tensor? offsets) -> Tensor[]");
  // The same, for clips through which no gradient can pass: preparing for one takes longer than a small paste.
  library.def(
      "paste_tubelets.bytes(Tensor[] clips, Tensor patches, Tensor patch_size, Tensor centers, Tensor linear, "
      "Tensor shape, Tensor edge, Tensor opacity, Tensor order, Tensor? offsets) -> Tensor[]");
  library.def(
      "paste_tubelets_(Tensor(a!)[] clips, Tensor patches, Tensor patch_size, Tensor centers, Tensor linear, "
      "Tensor shape, Tensor edge, Tensor opacity, Tensor order, Tensor? offsets) -> ()");
  library.def(
      "paste_tubelets_backward(Tensor[] gradients, Tensor[] clips, Tensor patches, Tensor patch_size, Tensor centers, "
      "Tensor linear, Tensor shape, Tensor edge, Tensor opacity, Tensor order, Tensor? offsets) -> (Tensor[], Tensor)");
  library.def(
      "queue_infonce(Tensor query, Tensor key, Tensor queue, Tensor? own_negatives, float temperature, "
      "bool need_gradient) -> (Tensor loss, Tensor rank, Tensor log_sum_exp, Tensor negative_mean)");
  library.def(
      "queue_infonce_backward(Tensor gradient, Tensor query, Tensor key, Tensor loss, Tensor negative_mean, "
      "float temperature, bool need_query, bool need_key) -> (Tensor, Tensor)");
  library.def("enqueue_(Tensor(a!) queue, Tensor(b!) pointer, Tensor keys) -> ()");
  library.def(
      "sample_and_paste_(Tensor(a!)[] clips, Tensor sample_ids, SymInt seed, SymInt epoch, float[] settings, "
      "SymInt[] largest_patch, Tensor? epoch_tensor=None) -> (Tensor numbers, Tensor integers)");
  library.def(
      "paste_objects_(Tensor(a!)[] clips, Tensor sample_ids, SymInt seed, SymInt epoch, float[] settings, "
      "Tensor texels, Tensor sizes, Tensor first_row, Tensor? epoch_tensor=None) -> ()");
  library.def(
      "track_points(Tensor points, Tensor point_frame, Tensor frames, Tensor patch_size, Tensor centers, "
      "Tensor linear, Tensor shape, Tensor edge, Tensor opacity, Tensor order, SymInt height, SymInt width) -> "
      "(Tensor places, Tensor visibility, Tensor owner)");
  library.def(
      "draw_leaves(Tensor sample_ids, SymInt seed, SymInt epoch, SymInt num_frames, SymInt height, SymInt width, "
      "SymInt num_leaves, float[] radius, float motion, float camera, float turn, float growth, "
      "Tensor? epoch_tensor=None) -> Tensor");
  library.def(
      "sample_augmentation(Tensor sample_ids, SymInt seed, SymInt epoch, SymInt[] sizes, float[] settings, "
      "Tensor? epoch_tensor=None) -> (Tensor windows, Tensor flips, Tensor color)");
  library.def(
      "augment_clips_(Tensor(a!)[] outputs, Tensor[] clips, Tensor? windows, Tensor? flips, Tensor? color, "
      "float[] normalization, Tensor[] tubelets, SymInt[] largest_patch) -> ()");
  library.def("limit_instructions(int most) -> int");
}
