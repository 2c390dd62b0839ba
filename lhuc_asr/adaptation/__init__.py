"""From a speaker's untranscribed speech to that speaker's scales: first pass, supervision, update, second pass."""
