"""What is asked of models and accelerators beyond running them: comparisons, similarity, quality, exploration, figures."""
