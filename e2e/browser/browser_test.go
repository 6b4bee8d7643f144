// Package browser_test uses the dashboard in a real browser, over each kind of store, in front of a
// real Envoy. It is a separate module, so that the product does not depend on a browser driver.
package browser_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"extauthz/polltest"
)

// chromium returns the browser's path. The test fails if there is no browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium is installed: run `make test`, which installs it")
	return ""
}

// newBrowser starts a browser that ends with the test.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.WSURLReadTimeout(polltest.Patience))
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

// A page is one tab, with one size and one colour scheme. It records errors and requests to other sites.
type page struct {
	t    *testing.T
	ctx  context.Context
	site string

	mu    sync.Mutex
	wrong []string
}

func newPage(t *testing.T, ctx context.Context, site string, width int64, dark bool) *page { //nolint:revive // ctx is the browser
	t.Helper()
	tab, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	p := &page{t: t, ctx: tab, site: site}
	if err := chromedp.Do(tab); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	if err := chromedp.Listen(tab, p.listen); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.run(
		command(network.Enable, network.EnableParams{}), command(runtime.Enable, cdp.Empty{}), chromedp.EmulateViewport(width, 900),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}))
	return p
}

func (p *page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.wrong = append(p.wrong, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			p.wrong = append(p.wrong, fmt.Sprintf("console: %v", e.Args))
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || "http://"+u.Host != p.site && u.Scheme != "about" && u.Scheme != "data" {
			p.wrong = append(p.wrong, "a request to another host: "+e.Request.URL)
		}
	}
}

// command sends a command of the browser's protocol.
func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (p *page) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, polltest.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		p.t.Fatalf("%v\nthe page says:\n%s", err, text)
	}
}

// value runs an action and returns its result.
func value[T any](p *page, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, polltest.Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// open loads a page and runs the checks that apply to every page.
func (p *page) open(path string) {
	p.t.Helper()
	p.run(chromedp.Navigate(p.site + path))
	p.check(path)
}

// unreadable is a script that finds violations of the Web Content Accessibility Guidelines 2.2: text with a
// contrast below 4.5 (1.4.3), the edge of a field or a bar below 3 (1.4.11), fields without a label and
// buttons and links without text (4.1.2), and targets smaller than 24 px (2.5.8).
const unreadable = `(() => {
  const wrong = new Set();
  const rgb = (c) => c.match(/[\d.]+/g).map(Number);
  const luminance = (c) => {
    const [r, g, b] = rgb(c).map((v) => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m);
    return (x + 0.05) / (y + 0.05);
  };
  const transparent = (c) => rgb(c)[3] === 0;
  const behind = (e) => {
    for (; e; e = e.parentElement) if (!transparent(getComputedStyle(e).backgroundColor)) return getComputedStyle(e).backgroundColor;
    return "rgb(255, 255, 255)";
  };
  const demand = (least, what, a, b) => { if (contrast(a, b) < least) wrong.add(what + " has the contrast " + contrast(a, b).toFixed(2) + ": " + a + " on " + b); };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !e.checkVisibility() || e instanceof SVGTitleElement) continue;
    demand(4.5, "\"" + text.slice(0, 30) + "\"", e instanceof SVGElement ? getComputedStyle(e).fill : getComputedStyle(e).color, behind(e));
  }
  for (const e of document.querySelectorAll("input:not([type=hidden]), textarea, select")) {
    if (!e.checkVisibility()) continue;
    const name = e.name || e.id;
    demand(3, "the edge of " + name, getComputedStyle(e).borderTopColor, behind(e.parentElement));
    if (e.placeholder) demand(4.5, "the placeholder of " + name, getComputedStyle(e, "::placeholder").color, behind(e));
    if (![...(e.labels || [])].some((l) => l.textContent.trim())) wrong.add(name + " has no label");
  }
  for (const e of document.querySelectorAll("rect.allowed, rect.refused")) demand(3, "a bar", getComputedStyle(e).fill, behind(e));
  for (const e of document.querySelectorAll("button, a, summary")) {
    if (!e.checkVisibility()) continue;
    if (!e.textContent.trim()) wrong.add("a link or button without a text: " + e.outerHTML);
    const box = e.getBoundingClientRect();
    if (e.tagName === "BUTTON" && box.height < 24) wrong.add(e.textContent + " is " + box.height + " px high");
  }
  for (const e of document.querySelectorAll("[hidden]")) if (e.checkVisibility()) wrong.add("a hidden element is shown: " + e.outerHTML);
  if (document.querySelectorAll("h1").length !== 1) wrong.add("not one h1");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.filter((i) => i === id).length > 1) wrong.add("the id " + id + " twice");
  return [...wrong];
})()`

// check fails the test if the page scrolls horizontally, violates the guidelines, or caused an error or a
// request to another site.
func (p *page) check(path string) {
	p.t.Helper()
	if value(p, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > document.documentElement.clientWidth`)) {
		p.t.Errorf("%s scrolls sideways", path)
	}
	for _, w := range value(p, chromedp.Evaluate[[]string](unreadable)) {
		p.t.Errorf("%s: %s", path, w)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.wrong {
		p.t.Errorf("%s: %s", path, w)
	}
	p.wrong = nil
}

func (p *page) text() string {
	p.t.Helper()
	return value(p, chromedp.Text(chromedp.CSS("body")))
}

// wants waits until the page contains all of the strings.
func (p *page) wants(all ...string) {
	p.t.Helper()
	for _, text := range all {
		polltest.NoError(p.t, func() error {
			if said := p.text(); !strings.Contains(said, text) {
				return fmt.Errorf("the page does not say %q:\n%s", text, said)
			}
			return nil
		})
	}
}

// follow clicks a link or button and waits for the next page.
func (p *page) follow(selector string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, polltest.Patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(selector)); err != nil {
		p.t.Fatalf("click %s: %v\nthe page says:\n%s", selector, err, p.text())
	}
	p.check(selector)
}

func (p *page) fill(selector, text string) {
	p.t.Helper()
	value(p, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q).value = ''", selector)))
	p.run(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// picture writes a picture of the whole page to the folder that EXTAUTHZ_SCREENSHOTS names, if it
// names one.
func (p *page) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("EXTAUTHZ_SCREENSHOTS")
	if dir == "" {
		return
	}
	png := value(p, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
