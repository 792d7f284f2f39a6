"""The template of a ticket's card, kept as package data."""
