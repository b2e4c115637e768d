"""Labelled videos that are rendered on the user's machine: fine-grained actions whose labels only motion tells."""
