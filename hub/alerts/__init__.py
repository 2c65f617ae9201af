"""What jobs find, held against rules; who has to hear of it gets a word through the outbox."""
