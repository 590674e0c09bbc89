"""What the runs say: tables, intervals, comparisons. Knows files only."""
