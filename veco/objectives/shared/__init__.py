"""What several objectives share: how sentences and tokens become what is compared, and copies of the encoder."""
