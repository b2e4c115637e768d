"""The study: what each part of the method brings, at a size that anyone can rerun. Not part of the wheel."""
