"""How an encoder is judged: embedding, readout, retrieval, motion probe, attention, results and tables."""
