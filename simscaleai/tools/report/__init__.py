"""Reports: one HTML file with the outcome of an evaluation, a comparison, a stress test or a sweep."""
