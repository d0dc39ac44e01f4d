package hub

// SetRetainable bounds the memory of replays for clients that read slowly.
func (h *Hub) SetRetainable(bytes int) {
	h.resumes.mu.Lock()
	defer h.resumes.mu.Unlock()
	h.resumes.retainable = bytes
}
