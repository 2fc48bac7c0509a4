"""Learning: from pictures and clips to a concept."""
