"""Gymnastics of one figure: classes differ by what turns, how often, which way and in which order.

Each module has one part: `motions` the poses, `classes` the labels, `draw` everything else that a clip differs in,
`figure` and `backdrop` the picture, `stage` puts them together.
"""
