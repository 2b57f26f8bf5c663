"""The certificate of quotas: folds the log alone and says whether any grant went beyond what was known when it was made."""
