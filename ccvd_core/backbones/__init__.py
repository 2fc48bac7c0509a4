"""Video models behind one small interface (`base.Backbone`)."""
