"""What emergence costs, learns, evolves and finds."""
