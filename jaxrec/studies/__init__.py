"""What experiments are made of: each study trains, measures and records, and goes on where it was stopped."""
