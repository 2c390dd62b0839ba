"""The stages that lead to a model directory, a file for each; which of them are needed depends on the criterion."""
