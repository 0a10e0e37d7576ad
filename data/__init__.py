"""Data that ships with Plait: multiple-choice questions, CC0."""
