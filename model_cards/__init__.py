"""The templates of cards, kept as package data; and the cards of the packaged ladders, for people."""
