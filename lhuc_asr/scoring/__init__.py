"""Error rates, tests of significance, files for sclite, tables and pictures."""
