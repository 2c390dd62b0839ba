"""The model directory: everything that recognition needs, in one place, checked on loading."""
