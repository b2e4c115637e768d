"""Repetition counting (UCFRep): how many times something is done in a video.

A network looks at the two repetitions next to a place in the video, estimated so far, and says how much longer or
shorter they are; estimates are refined by asking again. Section 4.1 and appendix C of the paper, after Zhang et al.,
"Context-aware and scale-insensitive temporal repetition counting" (CVPR 2020).
"""
