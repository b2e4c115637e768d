// Colour jitter and normalisation of a clip as one affine map of its bytes: brightness, contrast about the clip's mean
// grey, saturation (0 is grey), hue, and at last (colour - mean) / std. Nothing is clamped between the steps, so that
// all of them are one 3 x 4 matrix.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/sine_cosine.h"

namespace tubeletx {

/// How the colours of a clip change; turns of hue are of the circle.
struct ColorFactors {
  float brightness, contrast, saturation, hue;
};

/// What is subtracted from colours in [0, 1], and what they are then divided by.
struct Normalization {
  double mean[3], deviation[3];
};

/// Of a channel: weights of the three bytes, and what is added.
struct ColorMap {
  float entry[3][4];
};

struct ColorMatrix {
  double entry[3][3];
};

constexpr ColorMatrix multiply(const ColorMatrix& left, const ColorMatrix& right) {
  ColorMatrix product{};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 3; ++k) product.entry[i][j] += left.entry[i][k] * right.entry[k][j];
    }
  }
  return product;
}

constexpr ColorMatrix inverse(const ColorMatrix& matrix) {
  const auto& m = matrix.entry;
  ColorMatrix adjugate{};
  for (int i = 0; i < 3; ++i) {
    const int a = (i + 1) % 3, b = (i + 2) % 3;
    for (int j = 0; j < 3; ++j) {
      const int c = (j + 1) % 3, d = (j + 2) % 3;
      adjugate.entry[j][i] = m[a][c] * m[b][d] - m[a][d] * m[b][c];
    }
  }
  const double determinant =
      m[0][0] * adjugate.entry[0][0] + m[0][1] * adjugate.entry[1][0] + m[0][2] * adjugate.entry[2][0];
  for (auto& row : adjugate.entry) {
    for (double& entry : row) entry /= determinant;
  }
  return adjugate;
}

/// Rec. 601 luma, and the NTSC axes: turning the last two coordinates turns the hue.
inline constexpr ColorMatrix kToYiq = {{{0.299, 0.587, 0.114}, {0.596, -0.274, -0.322}, {0.211, -0.523, 0.312}}};
inline constexpr ColorMatrix kFromYiq = inverse(kToYiq);

/// A turn by the angle a is kHueStays + cos(a) kHueCosine + sin(a) kHueSine.
inline constexpr ColorMatrix kHueStays = multiply(kFromYiq, multiply({{{1, 0, 0}, {0, 0, 0}, {0, 0, 0}}}, kToYiq));
inline constexpr ColorMatrix kHueCosine = multiply(kFromYiq, multiply({{{0, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, kToYiq));
inline constexpr ColorMatrix kHueSine = multiply(kFromYiq, multiply({{{0, 0, 0}, {0, 0, -1}, {0, 1, 0}}}, kToYiq));

/// `sums` of the red, green and blue bytes of `pixels` pixels; only contrast looks at them.
TUBELETX_HOST_DEVICE inline ColorMap make_color_map(const ColorFactors& factors, const int64_t (&sums)[3],
                                                    int64_t pixels, const Normalization& normalization) {
  constexpr double kWhite = 255.0;
  constexpr ColorMatrix kYiq = kToYiq, kStays = kHueStays, kAlong = kHueCosine, kAcross = kHueSine;
  double grey = 0;
  if (factors.contrast != 1.0f) {
    for (int c = 0; c < 3; ++c) grey += kYiq.entry[0][c] * static_cast<double>(sums[c]);
    grey /= kWhite * static_cast<double>(pixels);
  }
  const SineCosine turn = sine_cosine_degrees(360.0f * factors.hue);
  const double gain = static_cast<double>(factors.brightness) * static_cast<double>(factors.contrast);
  const double saturation = factors.saturation;
  // Grey passes saturation and hue unchanged.
  const double offset = (1.0 - static_cast<double>(factors.contrast)) * static_cast<double>(factors.brightness) * grey;
  ColorMap map;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      double entry = 0;
      for (int k = 0; k < 3; ++k) {
        const double hue = kStays.entry[i][k] + static_cast<double>(turn.cosine) * kAlong.entry[i][k] +
                           static_cast<double>(turn.sine) * kAcross.entry[i][k];
        const double saturate = (1.0 - saturation) * kYiq.entry[0][j] + (k == j ? saturation : 0.0);
        entry += hue * saturate;
      }
      map.entry[i][j] = static_cast<float>(entry * gain / (kWhite * normalization.deviation[i]));
    }
    map.entry[i][3] = static_cast<float>((offset - normalization.mean[i]) / normalization.deviation[i]);
  }
  return map;
}

/// One channel of a pixel.
TUBELETX_INLINE float map_color(const float (&row)[4], float red, float green, float blue) {
  return row[0] * red + row[1] * green + row[2] * blue + row[3];
}

}  // namespace tubeletx
