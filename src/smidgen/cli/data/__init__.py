"""Clean a corpus, or let a teacher write more examples; what comes out fits --for of every other command."""
