package browser

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestCursorsPicture writes docs/cursors.gif, one tab as it sees the cursors of four others, to the folder that
// EDGERELAY_SCREENSHOTS names.
func TestCursorsPicture(t *testing.T) {
	dir := os.Getenv("EDGERELAY_SCREENSHOTS")
	if dir == "" {
		t.Skip("EDGERELAY_SCREENSHOTS names no folder for the pictures")
	}
	const frames, width, height = 30, 560, 300
	s := functionSite(t, "cursors")
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(width, height))
	page.Go(t, s.URL+"?name=Eve")
	names := []string{"Ann", "Ben", "Chloé", "Dai"}
	tabs := make([]Tab, len(names))
	for i, name := range names {
		tabs[i] = page.Tab(t)
		tabs[i].Go(t, s.URL+"?name="+name)
	}
	var shots []image.Image
	for n := range frames {
		for i := range tabs {
			// Each cursor has an ellipse of its own, and returns to its first place.
			angle := 2 * math.Pi * (float64(n)/frames + float64(i)/4)
			x := 0.45 + (0.2+0.05*float64(i))*math.Cos(angle)
			y := 0.55 + (0.3-0.05*float64(i))*math.Sin(angle*float64(1+i%2))
			point(t, tabs[i], x, y)
			page.Wait(t, soon, fmt.Sprintf(`[...document.querySelectorAll(".cursor")].some((cursor) => {
				const {left, top} = cursor.getBoundingClientRect();
				return cursor.innerText === %q && Math.hypot(left - %f, top - %f) < 2;
			})`, names[i], x*width, y*height))
		}
		file := filepath.Join(t.TempDir(), "shot.png")
		page.Screenshot(t, file)
		shots = append(shots, readPNG(t, file))
	}
	var out bytes.Buffer
	if err := gif.EncodeAll(&out, animation(shots)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cursors.gif"), out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readPNG(t *testing.T, file string) image.Image {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	shot, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return shot
}

// animation makes pictures of equal size an endless animation. Each frame is the part that has changed.
func animation(shots []image.Image) *gif.GIF {
	colors := commonColors(shots)
	var before *image.Paletted
	g := &gif.GIF{}
	for _, shot := range shots {
		now := image.NewPaletted(shot.Bounds(), colors)
		draw.Draw(now, now.Bounds(), shot, shot.Bounds().Min, draw.Src)
		frame := now
		if before != nil {
			frame = now.SubImage(changed(before, now)).(*image.Paletted)
		}
		g.Image, g.Delay = append(g.Image, frame), append(g.Delay, 8)
		before = now
	}
	return g
}

// commonColors returns the 256 most frequent colors of pictures.
func commonColors(shots []image.Image) color.Palette {
	count := map[color.RGBA]int{}
	for _, shot := range shots {
		b := shot.Bounds()
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				count[color.RGBAModel.Convert(shot.At(x, y)).(color.RGBA)]++
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	var colors color.Palette
	for _, c := range order[:min(len(order), 256)] {
		colors = append(colors, c)
	}
	return colors
}

// changed returns the rectangle in which two pictures differ.
func changed(a, b *image.Paletted) (r image.Rectangle) {
	for y := b.Rect.Min.Y; y < b.Rect.Max.Y; y++ {
		for x := b.Rect.Min.X; x < b.Rect.Max.X; x++ {
			if a.ColorIndexAt(x, y) != b.ColorIndexAt(x, y) {
				r = r.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	return r
}
