"""What the toolkit costs on this machine, beside what others cost: paired timings, tables and a picture."""
