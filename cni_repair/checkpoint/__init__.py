"""What is remembered of an attachment: model, durable store, identity, older formats."""
