"""A robot's arm that opens and closes, pushes and pulls things: each class and its opposite show the same pictures.

Each module has one part: `classes` the labels, `draw` everything else that a clip differs in, `actions` how the arm
moves, `stage` the picture.
"""
