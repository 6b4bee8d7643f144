package permission_test

import (
	"fmt"
	"slices"

	"extauthz/permission"
)

func ExampleParse() {
	query, err := permission.Parse("documents.read AND (documents.write OR admin)")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, held := range [][]string{{"documents.read", "admin"}, {"documents.read"}} {
		has := func(p string) bool { return slices.Contains(held, p) }
		if query.Holds(has) {
			fmt.Println("allowed")
			continue
		}
		fmt.Println("missing:", query.Missing(has))
	}
	_, err = permission.Parse("documents.read AND")
	fmt.Println(err)
	// Output:
	// allowed
	// missing: [documents.write admin]
	// column 16: AND has nothing after it: write a permission there, such as documents.read
}

func ExampleRoles_Grant() {
	roles := permission.Roles{"editor": {"documents.read", "documents.write"}}
	fmt.Println(roles.Grant("documents.write", nil, []string{"editor"}))
	fmt.Println(roles.Grant("admin", []string{"billing"}, []string{"editor"}))
	// Output:
	// true
	// false
}
