package main

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// The recorded cases of a package, testdata/conformance/*.txt beside it, are the
// parts of its TestConformance. The comment before a case, and those in it, say
// which sections it is for; without any, the file's first comment does.
const (
	storyDir  = "testdata/conformance"
	storyTest = "TestConformance"
)

// scanStories collects the tags of the cases under a package's testdata.
func scanStories(root fs.FS, testdata string, known *catalogue) (cites []cite, problems []string, err error) {
	files, err := fs.Glob(root, path.Join(path.Dir(testdata), storyDir, "*.txt"))
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		src, err := fs.ReadFile(root, f)
		if err != nil {
			return nil, nil, err
		}
		cs, bad := storyTags(f, string(src), known)
		cites = append(cites, cs...)
		problems = append(problems, bad...)
	}
	return cites, problems, nil
}

func storyTags(file, text string, known *catalogue) (cites []cite, problems []string) {
	type story struct{ name, comments string }
	var head, pending string
	var all []story
	flush := func() { // what stands in a case, or before the first
		if len(all) > 0 {
			all[len(all)-1].comments += pending
		} else {
			head += pending
		}
		pending = ""
	}
	for _, line := range strings.Split(text, "\n") {
		comment, isComment := strings.CutPrefix(line, "#")
		name, isCase := strings.CutPrefix(line, "case ")
		switch {
		case isComment:
			pending += comment + "\n"
		case isCase:
			all = append(all, story{name, pending})
			pending = ""
		default:
			flush()
		}
	}
	read := func(s string) []cite {
		found, err := tags(s, known)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", file, err))
		}
		return found
	}
	for _, s := range all {
		found := read(s.comments)
		if len(found) == 0 {
			found = read(head)
		}
		symbol := storyTest + "/" + strings.TrimSuffix(path.Base(file), ".txt") + "/" + s.name
		for _, c := range found {
			c.Place = place{File: file, Symbol: symbol, Test: true}
			cites = append(cites, c)
		}
	}
	return cites, problems
}

// dir is the package that a place belongs to.
func (p place) dir() string {
	if d, ok := strings.CutSuffix(path.Dir(p.File), "/"+storyDir); ok {
		return d
	}
	return path.Dir(p.File)
}

// isStory says whether a test is a recorded case.
func isStory(test string) bool { return strings.Contains(test, storyTest+"/") }
