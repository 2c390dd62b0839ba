"""Click logs on disk and in memory: public layouts, a log that is made up, splits by time, and the numbering of ids."""
